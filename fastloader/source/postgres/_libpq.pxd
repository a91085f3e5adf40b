"""The part of libpq-fe.h that is used, as a table of pointers that are looked up at import.

This file has foreign declarations only.
"""

cdef extern from *:
    # Copied from libpq-fe.h and postgres_ext.h. They are libpq's ABI and do not change. Without
    # these headers, building does not need libpq's development files.
    """
    typedef struct pg_conn PGconn;
    typedef struct pg_result PGresult;
    enum { FL_CONNECTION_OK = 0 };
    enum {
        FL_PGRES_EMPTY_QUERY = 0, FL_PGRES_COMMAND_OK = 1, FL_PGRES_TUPLES_OK = 2,
        FL_PGRES_COPY_OUT = 3, FL_PGRES_FATAL_ERROR = 7
    };
    enum { FL_DIAG_SQLSTATE = 'C', FL_DIAG_PRIMARY = 'M', FL_DIAG_DETAIL = 'D', FL_DIAG_HINT = 'H' };
    typedef struct {
        int (*send_query)(PGconn *, const char *);
        int (*send_query_params)(PGconn *, const char *, int, const unsigned int *,
                                 const char *const *, const int *, const int *, int);
        int (*set_nonblocking)(PGconn *, int);
        int (*flush)(PGconn *);
        int (*consume_input)(PGconn *);
        int (*is_busy)(PGconn *);
        int (*socket)(const PGconn *);
        int (*status)(const PGconn *);
        char *(*error_message)(const PGconn *);
        PGresult *(*get_result)(PGconn *);
        int (*result_status)(const PGresult *);
        char *(*result_error_field)(const PGresult *, int);
        char *(*result_error_message)(const PGresult *);
        void (*clear)(PGresult *);
        int (*ntuples)(const PGresult *);
        int (*nfields)(const PGresult *);
        char *(*fname)(const PGresult *, int);
        unsigned int (*ftype)(const PGresult *, int);
        int (*fmod)(const PGresult *, int);
        int (*fformat)(const PGresult *, int);
        char *(*getvalue)(const PGresult *, int, int);
        int (*getlength)(const PGresult *, int, int);
        int (*getisnull)(const PGresult *, int, int);
        int (*get_copy_data)(PGconn *, char **, int);
        void (*freemem)(void *);
    } fl_libpq;
    """
    ctypedef struct PGconn:
        pass

    ctypedef struct PGresult:
        pass

    const int FL_CONNECTION_OK
    const int FL_PGRES_EMPTY_QUERY, FL_PGRES_COMMAND_OK, FL_PGRES_TUPLES_OK
    const int FL_PGRES_COPY_OUT, FL_PGRES_FATAL_ERROR
    const int FL_DIAG_SQLSTATE, FL_DIAG_PRIMARY, FL_DIAG_DETAIL, FL_DIAG_HINT

    ctypedef struct fl_libpq:
        int (*send_query)(PGconn *, const char *) noexcept nogil
        int (*send_query_params)(
            PGconn *, const char *, int, const unsigned int *, const char *const *, const int *,
            const int *, int) noexcept nogil
        int (*set_nonblocking)(PGconn *, int) noexcept nogil
        int (*flush)(PGconn *) noexcept nogil
        int (*consume_input)(PGconn *) noexcept nogil
        int (*is_busy)(PGconn *) noexcept nogil
        int (*socket)(const PGconn *) noexcept nogil
        int (*status)(const PGconn *) noexcept nogil
        char *(*error_message)(const PGconn *) noexcept nogil
        PGresult *(*get_result)(PGconn *) noexcept nogil
        int (*result_status)(const PGresult *) noexcept nogil
        char *(*result_error_field)(const PGresult *, int) noexcept nogil
        char *(*result_error_message)(const PGresult *) noexcept nogil
        void (*clear)(PGresult *) noexcept nogil
        int (*ntuples)(const PGresult *) noexcept nogil
        int (*nfields)(const PGresult *) noexcept nogil
        char *(*fname)(const PGresult *, int) noexcept nogil
        unsigned int (*ftype)(const PGresult *, int) noexcept nogil
        int (*fmod)(const PGresult *, int) noexcept nogil
        int (*fformat)(const PGresult *, int) noexcept nogil
        char *(*getvalue)(const PGresult *, int, int) noexcept nogil
        int (*getlength)(const PGresult *, int, int) noexcept nogil
        int (*getisnull)(const PGresult *, int, int) noexcept nogil
        int (*get_copy_data)(PGconn *, char **, int) noexcept nogil
        void (*freemem)(void *) noexcept nogil

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents

    const short POLLIN, POLLOUT

    int poll(pollfd *waiting, unsigned long count, int timeout_ms) noexcept
