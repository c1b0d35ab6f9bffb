// Preloaded into a process: counts what it changes below one folder, and at a given count makes the
// system call fail, or ends the process, before the call or in the midst of a write.
//
// The folder, the count and the kind are read from a file that the process and its parent share.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITES = 1, READS = 2 };

typedef struct {
    atomic_long armed;   // whether to count
    atomic_long count;   // calls so far
    long at;             // the call that it happens at; 0: never
    long error;          // errno to fail with; 0: send `signal`
    long signal;
    long sticky;         // whether all later calls fail, too
    long torn;           // whether a write gets half done first
    long what;           // WRITES or READS
    atomic_long fired;   // how often it happened
    char folder[1024];
} Control;

static Control* control;
static unsigned char below[1 << 16];  // file descriptor -> whether it is below the folder

static void* next(const char* name) { return dlsym(RTLD_NEXT, name); }

__attribute__((constructor)) static void start(void) {
    const char* path = getenv("FAULT_CONTROL");
    if (!path) return;
    int fd = ((int (*)(const char*, int, ...))next("open"))(path, O_RDWR);
    if (fd < 0) return;
    void* found = mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (found != MAP_FAILED) control = found;
}

static int is_below(const char* path) {
    if (!control || !atomic_load(&control->armed) || !path) return 0;
    size_t n = strlen(control->folder);
    return n && !strncmp(path, control->folder, n) && (path[n] == '/' || path[n] == '.' || !path[n]);
}

static int is_ours(int fd) { return fd >= 0 && fd < (1 << 16) && below[fd]; }

// Whether a call shall fail; errno is set. Does not return where the process is to end.
static int strikes(long what, int can_be_torn) {
    if (!control || !atomic_load(&control->armed) || control->what != what) return 0;
    long n = atomic_fetch_add(&control->count, 1) + 1;
    if (!control->at || n < control->at || (n > control->at && !control->sticky)) return 0;
    atomic_fetch_add(&control->fired, 1);
    if (control->error) {
        errno = (int)control->error;
        return 1;
    }
    if (control->torn && can_be_torn) return 2;
    if (n == control->at) kill(getpid(), (int)control->signal);
    return 0;
}

static void note(int fd, const char* path) {
    if (fd >= 0 && fd < (1 << 16)) below[fd] = (unsigned char)is_below(path);
}

static int opened(const char* name, int at, const char* path, int flags, mode_t mode) {
    int writes = (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) != 0;
    if (is_below(path) && strikes(writes ? WRITES : READS, 0)) return -1;
    int fd = ((int (*)(int, const char*, int, ...))next(name))(at, path, flags, mode);
    note(fd, path);
    return fd;
}

#define OPEN(NAME, REAL)                                            \
    int NAME(const char* path, int flags, ...) {                    \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                               \
        return opened(REAL, AT_FDCWD, path, flags, mode);           \
    }
OPEN(open, "openat")
OPEN(open64, "openat64")

#define OPENAT(NAME)                                                \
    int NAME(int at, const char* path, int flags, ...) {            \
        va_list rest;                                               \
        va_start(rest, flags);                                      \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                               \
        return opened(#NAME, at, path, flags, mode);                \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    if (fd >= 0 && fd < (1 << 16)) below[fd] = 0;
    return ((int (*)(int))next("close"))(fd);
}

ssize_t write(int fd, const void* data, size_t n) {
    ssize_t (*real)(int, const void*, size_t) = next("write");
    if (!is_ours(fd)) return real(fd, data, n);
    int how = strikes(WRITES, 1);
    if (how == 1) return -1;
    if (how == 2) {
        real(fd, data, n / 2);
        kill(getpid(), (int)control->signal);
        return real(fd, (const char*)data + n / 2, n - n / 2) + (ssize_t)(n / 2);
    }
    return real(fd, data, n);
}

#define PWRITE(NAME, OFFSET)                                             \
    ssize_t NAME(int fd, const void* data, size_t n, OFFSET offset) {    \
        ssize_t (*real)(int, const void*, size_t, OFFSET) = next(#NAME); \
        if (is_ours(fd) && strikes(WRITES, 0)) return -1;                \
        return real(fd, data, n, offset);                                \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t writev(int fd, const struct iovec* parts, int n) {
    if (is_ours(fd) && strikes(WRITES, 0)) return -1;
    return ((ssize_t (*)(int, const struct iovec*, int))next("writev"))(fd, parts, n);
}

#define SENDFILE(NAME, OFFSET)                                        \
    ssize_t NAME(int out, int in, OFFSET* offset, size_t n) {         \
        if (is_ours(out) && strikes(WRITES, 0)) return -1;            \
        return ((ssize_t (*)(int, int, OFFSET*, size_t))next(#NAME))(out, in, offset, n); \
    }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

ssize_t read(int fd, void* data, size_t n) {
    if (is_ours(fd) && strikes(READS, 0)) return -1;
    return ((ssize_t (*)(int, void*, size_t))next("read"))(fd, data, n);
}

#define PREAD(NAME, OFFSET)                                                            \
    ssize_t NAME(int fd, void* data, size_t n, OFFSET offset) {                        \
        if (is_ours(fd) && strikes(READS, 0)) return -1;                               \
        return ((ssize_t (*)(int, void*, size_t, OFFSET))next(#NAME))(fd, data, n, offset); \
    }
PREAD(pread, off_t)
PREAD(pread64, off64_t)

#define OF_FD(NAME)                                        \
    int NAME(int fd) {                                     \
        if (is_ours(fd) && strikes(WRITES, 0)) return -1;  \
        return ((int (*)(int))next(#NAME))(fd);            \
    }
OF_FD(fsync)
OF_FD(fdatasync)

#define TRUNCATE(NAME, OFFSET)                             \
    int NAME(int fd, OFFSET n) {                           \
        if (is_ours(fd) && strikes(WRITES, 0)) return -1;  \
        return ((int (*)(int, OFFSET))next(#NAME))(fd, n); \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

int rename(const char* from, const char* to) {
    if (is_below(to) && strikes(WRITES, 0)) return -1;
    return ((int (*)(const char*, const char*))next("rename"))(from, to);
}

int renameat(int a, const char* from, int b, const char* to) {
    if (is_below(to) && strikes(WRITES, 0)) return -1;
    return ((int (*)(int, const char*, int, const char*))next("renameat"))(a, from, b, to);
}

int renameat2(int a, const char* from, int b, const char* to, unsigned flags) {
    if (is_below(to) && strikes(WRITES, 0)) return -1;
    return ((int (*)(int, const char*, int, const char*, unsigned))next("renameat2"))(
        a, from, b, to, flags);
}

int link(const char* from, const char* to) {
    if (is_below(to) && strikes(WRITES, 0)) return -1;
    return ((int (*)(const char*, const char*))next("link"))(from, to);
}

int linkat(int a, const char* from, int b, const char* to, int flags) {
    if (is_below(to) && strikes(WRITES, 0)) return -1;
    return ((int (*)(int, const char*, int, const char*, int))next("linkat"))(a, from, b, to, flags);
}

#define OF_PATH(NAME)                                        \
    int NAME(const char* path) {                             \
        if (is_below(path) && strikes(WRITES, 0)) return -1; \
        return ((int (*)(const char*))next(#NAME))(path);    \
    }
OF_PATH(unlink)
OF_PATH(rmdir)

int unlinkat(int at, const char* path, int flags) {
    if ((is_below(path) || is_ours(at)) && strikes(WRITES, 0)) return -1;
    return ((int (*)(int, const char*, int))next("unlinkat"))(at, path, flags);
}

int mkdir(const char* path, mode_t mode) {
    if (is_below(path) && strikes(WRITES, 0)) return -1;
    return ((int (*)(const char*, mode_t))next("mkdir"))(path, mode);
}
