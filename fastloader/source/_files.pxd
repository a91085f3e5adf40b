"""The system calls that open a file beneath a folder, as libc or the kernel has them.

This file has foreign declarations only.
"""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <stdio.h>
    #include <sys/stat.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    /* Older headers do not have it; the number is that of all architectures we build for. */
    #ifndef SYS_openat2
    #define SYS_openat2 437
    #endif
    #define FL_NO_MAGICLINKS 0x02
    #define FL_BENEATH 0x08

    /* Open a path that does not leave the folder, links included, without opening the file itself.
     * Returns a descriptor, or -1 with errno. */
    static int fl_open_beneath(int folder, const char *path)
    {
        struct {
            uint64_t flags, mode, resolve;
        } how = {O_PATH | O_CLOEXEC, 0, FL_BENEATH | FL_NO_MAGICLINKS};
        return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
    }

    /* Open one component of a path, or the link that it is. Returns as above. */
    static int fl_open_component(int folder, const char *name)
    {
        return openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    }

    /* Open the file behind an O_PATH descriptor for reading. Returns as above. */
    static int fl_reopen(int fd)
    {
        char name[32];
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        return open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    }

    /* Have the system begin to read an open file. */
    static void fl_will_need(int fd, Py_ssize_t size)
    {
        (void)posix_fadvise(fd, 0, size, POSIX_FADV_WILLNEED);
    }

    static uint64_t fl_dev(const struct stat *its) { return (uint64_t)its->st_dev; }
    static uint64_t fl_ino(const struct stat *its) { return (uint64_t)its->st_ino; }
    """
    int fl_open_beneath(int folder, const char *path) noexcept nogil
    int fl_open_component(int folder, const char *name) noexcept nogil
    int fl_reopen(int fd) noexcept nogil
    void fl_will_need(int fd, Py_ssize_t size) noexcept nogil

    struct stat:
        Py_ssize_t st_size
        unsigned int st_mode

    int fstat(int fd, stat *its) noexcept nogil
    uint64_t fl_dev(const stat *its) noexcept nogil
    uint64_t fl_ino(const stat *its) noexcept nogil
    bint S_ISREG(unsigned int mode) noexcept nogil
    bint S_ISDIR(unsigned int mode) noexcept nogil
    bint S_ISLNK(unsigned int mode) noexcept nogil
    bint S_ISFIFO(unsigned int mode) noexcept nogil
    bint S_ISSOCK(unsigned int mode) noexcept nogil

    Py_ssize_t read(int fd, void *buffer, size_t size) noexcept nogil
    int close(int fd) noexcept nogil

    int errno
    int EAGAIN, EINTR, EIO, EMFILE, ENFILE, ENOMEM, ENOTDIR
