/* Stands before fsync and fdatasync of one process (LD_PRELOAD) and does to them what a file says:
 *
 *   slow MS    each waits so long first
 *   fail       each fails with EIO, and nothing is synced
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
#include <time.h>
#include <unistd.h>

/* 1: fail the call. */
static int obey(void) {
    const char *path = getenv("MUSTER_DISK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return 0;
    char text[32] = {0};
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    if (got <= 0) return 0;
    if (strncmp(text, "fail", 4) == 0) return 1;
    if (strncmp(text, "slow ", 5) == 0) {
        long ms = strtol(text + 5, NULL, 10);
        struct timespec left = {ms / 1000, (ms % 1000) * 1000000L};
        while (nanosleep(&left, &left) != 0 && errno == EINTR) {}
    }
    return 0;
}

static int sync_with(const char *name, int file) {
    if (obey()) {
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(file);
}

int fsync(int file) { return sync_with("fsync", file); }
int fdatasync(int file) { return sync_with("fdatasync", file); }
