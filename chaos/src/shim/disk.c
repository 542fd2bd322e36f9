/* Stands before fsync, fdatasync, write and read of one process (LD_PRELOAD) and does to them what a
 * file says:
 *
 *   slow MS      each sync waits so long first
 *   fail         each sync fails with EIO, and nothing is synced
 *   fail-write   each write to a file fails with EIO; what it prints is still printed
 *   fail-read    each read of a file fails with EIO
 *
 * An empty or missing file: as without it. MUSTER_DISK names the file; it is read at each call, so
 * that a disk can become bad and good again under a process that runs.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum order { NONE, FAIL, FAIL_WRITE, FAIL_READ, SLOW };

/* The order itself is read from a file. */
static __thread int reading_order;

static enum order ordered(long *ms) {
    const char *path = getenv("MUSTER_DISK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return NONE;
    char text[32] = {0};
    reading_order = 1;
    ssize_t got = read(file, text, sizeof text - 1);
    reading_order = 0;
    close(file);
    if (got <= 0) return NONE;
    if (strncmp(text, "fail-write", 10) == 0) return FAIL_WRITE;
    if (strncmp(text, "fail-read", 9) == 0) return FAIL_READ;
    if (strncmp(text, "fail", 4) == 0) return FAIL;
    if (strncmp(text, "slow ", 5) != 0) return NONE;
    *ms = strtol(text + 5, NULL, 10);
    return SLOW;
}

static int sync_with(const char *name, int file) {
    long ms = 0;
    enum order order = ordered(&ms);
    if (order == FAIL) {
        errno = EIO;
        return -1;
    }
    struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};
    while (order == SLOW && nanosleep(&left, &left) != 0 && errno == EINTR) {}
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(file);
}

/* 1: a file, neither a socket nor what it prints, and such calls are to fail. */
static int fails(int file, enum order order) {
    long ms;
    struct stat about;
    return !reading_order && file > STDERR_FILENO && fstat(file, &about) == 0 &&
           S_ISREG(about.st_mode) && ordered(&ms) == order;
}

int fsync(int file) { return sync_with("fsync", file); }
int fdatasync(int file) { return sync_with("fdatasync", file); }

ssize_t write(int file, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");
    if (!fails(file, FAIL_WRITE)) return real(file, bytes, count);
    errno = EIO;
    return -1;
}

ssize_t read(int file, void *bytes, size_t count) {
    static ssize_t (*real)(int, void *, size_t);
    if (!real) real = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (!fails(file, FAIL_READ)) return real(file, bytes, count);
    errno = EIO;
    return -1;
}

static ssize_t read_at(const char *name, int file, void *bytes, size_t count, off_t at) {
    ssize_t (*real)(int, void *, size_t, off_t) =
        (ssize_t(*)(int, void *, size_t, off_t))dlsym(RTLD_NEXT, name);
    if (!fails(file, FAIL_READ)) return real(file, bytes, count, at);
    errno = EIO;
    return -1;
}

ssize_t pread(int file, void *bytes, size_t count, off_t at) {
    return read_at("pread", file, bytes, count, at);
}
ssize_t pread64(int file, void *bytes, size_t count, off_t at) {
    return read_at("pread64", file, bytes, count, at);
}
