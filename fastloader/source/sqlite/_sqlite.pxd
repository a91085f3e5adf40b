"""The part of sqlite3.h that is used, as a table of pointers that are looked up at import.

This file has foreign declarations only.
"""

from libc.stdint cimport int64_t

cdef extern from *:
    """
    #include <dlfcn.h>
    #include <sqlite3.h>

    #define FL_SQLITE(function) \\
        function(libversion) function(open_v2) function(close) function(errmsg) \\
        function(extended_errcode) function(errstr) function(busy_timeout) \\
        function(set_authorizer) function(stricmp) function(interrupt) \\
        function(prepare_v2) function(next_stmt) function(finalize) function(reset) \\
        function(step) function(bind_parameter_count) \\
        function(bind_parameter_name) function(bind_int64) \\
        function(bind_double) function(bind_text) function(bind_blob) function(bind_null) \\
        function(column_count) function(column_value) function(value_type) \\
        function(value_int64) function(value_double) function(value_text) function(value_blob) \\
        function(value_bytes)

    #define FL_POINTER(name) __typeof__(&sqlite3_##name) name;
    typedef struct {
        FL_SQLITE(FL_POINTER)
    } fl_sqlite;

    #define FL_NAME(name) "sqlite3_" #name,
    static const char *const fl_sqlite_names[] = {FL_SQLITE(FL_NAME)};
    enum { FL_SQLITE_FUNCTIONS = sizeof(fl_sqlite_names) / sizeof(fl_sqlite_names[0]) };

    /* Keeps the linker from leaving out the library, which is otherwise only looked up in. */
    const char *(*volatile fl_linked)(void) = sqlite3_libversion;
    """
    ctypedef struct sqlite3:
        pass

    ctypedef struct sqlite3_stmt:
        pass

    ctypedef struct sqlite3_value:
        pass

    ctypedef void (*sqlite3_destructor_type)(void *) noexcept nogil

    ctypedef struct fl_sqlite:
        const char *(*libversion)() noexcept nogil
        int (*open_v2)(const char *, sqlite3 **, int, const char *) noexcept nogil
        int (*close)(sqlite3 *) noexcept nogil
        const char *(*errmsg)(sqlite3 *) noexcept nogil
        int (*extended_errcode)(sqlite3 *) noexcept nogil
        const char *(*errstr)(int) noexcept nogil
        int (*busy_timeout)(sqlite3 *, int) noexcept nogil
        int (*set_authorizer)(
            sqlite3 *,
            int (*)(void *, int, const char *, const char *, const char *, const char *)
            noexcept nogil,
            void *) noexcept nogil
        int (*stricmp)(const char *, const char *) noexcept nogil
        void (*interrupt)(sqlite3 *) noexcept nogil
        int (*prepare_v2)(
            sqlite3 *, const char *, int, sqlite3_stmt **, const char **) noexcept nogil
        sqlite3_stmt *(*next_stmt)(sqlite3 *, sqlite3_stmt *) noexcept nogil
        int (*finalize)(sqlite3_stmt *) noexcept nogil
        int (*reset)(sqlite3_stmt *) noexcept nogil
        int (*step)(sqlite3_stmt *) noexcept nogil
        int (*bind_parameter_count)(sqlite3_stmt *) noexcept nogil
        const char *(*bind_parameter_name)(sqlite3_stmt *, int) noexcept nogil
        int (*bind_int64)(sqlite3_stmt *, int, int64_t) noexcept nogil
        int (*bind_double)(sqlite3_stmt *, int, double) noexcept nogil
        int (*bind_text)(
            sqlite3_stmt *, int, const char *, int, sqlite3_destructor_type) noexcept nogil
        int (*bind_blob)(
            sqlite3_stmt *, int, const void *, int, sqlite3_destructor_type) noexcept nogil
        int (*bind_null)(sqlite3_stmt *, int) noexcept nogil
        int (*column_count)(sqlite3_stmt *) noexcept nogil
        sqlite3_value *(*column_value)(sqlite3_stmt *, int) noexcept nogil
        int (*value_type)(sqlite3_value *) noexcept nogil
        int64_t (*value_int64)(sqlite3_value *) noexcept nogil
        double (*value_double)(sqlite3_value *) noexcept nogil
        const unsigned char *(*value_text)(sqlite3_value *) noexcept nogil
        const void *(*value_blob)(sqlite3_value *) noexcept nogil
        int (*value_bytes)(sqlite3_value *) noexcept nogil

    const char *const fl_sqlite_names[]
    const int FL_SQLITE_FUNCTIONS

    const int SQLITE_OK, SQLITE_ROW, SQLITE_DONE, SQLITE_DENY, SQLITE_FUNCTION
    const int SQLITE_BUSY, SQLITE_NOMEM, SQLITE_INTERRUPT, SQLITE_TOOBIG, SQLITE_MISUSE
    const int SQLITE_INTEGER, SQLITE_FLOAT, SQLITE_TEXT, SQLITE_BLOB
    const int SQLITE_OPEN_READONLY, SQLITE_OPEN_URI, SQLITE_OPEN_NOMUTEX
    const sqlite3_destructor_type SQLITE_TRANSIENT, SQLITE_STATIC

    ctypedef struct Dl_info:
        const char *dli_fname

    int dladdr(const void *address, Dl_info *found) noexcept nogil
