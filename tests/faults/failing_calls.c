/* Lets one kind of system call fail on files whose path contains a text: FAIL_CALL, FAIL_ERRNO, FAIL_PATH. With
   FAIL_ONLY=N only the Nth call fails. Loaded by LD_PRELOAD, it stands for file systems that this machine does not have. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int fails(const char *call, int fd) {
    char link[64], path[4096];
    const char *wanted = getenv("FAIL_CALL");
    if (!wanted || strcmp(wanted, call)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0) return 0;
    path[n] = 0;
    if (!strstr(path, getenv("FAIL_PATH"))) return 0;
    static int calls = 0;
    if (getenv("FAIL_ONLY") && ++calls != atoi(getenv("FAIL_ONLY"))) return 0;
    errno = atoi(getenv("FAIL_ERRNO"));
    return 1;
}

int flock(int fd, int operation) {
    int (*real)(int, int) = (int (*)(int, int))dlsym(RTLD_NEXT, "flock");
    return fails("flock", fd) ? -1 : real(fd, operation);
}

int fsync(int fd) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    struct stat status;
    int folder = fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
    return fails(folder ? "fsync of a folder" : "fsync", fd) ? -1 : real(fd);
}

ssize_t read(int fd, void *buffer, size_t n) {
    ssize_t (*real)(int, void *, size_t) = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    return fails("read", fd) ? -1 : real(fd, buffer, n);
}

ssize_t pread64(int fd, void *buffer, size_t n, off64_t at) {
    ssize_t (*real)(int, void *, size_t, off64_t) = (ssize_t (*)(int, void *, size_t, off64_t))dlsym(RTLD_NEXT, "pread64");
    return fails("read", fd) || fails("pread64", fd) ? -1 : real(fd, buffer, n, at);
}
