/* Loaded before the C library (LD_PRELOAD): has the disk fail for chosen files, whose names hold these words, and threads get stuck.
 *
 *   UNSYNCED        fdatasync and fsync say that they have done it, and do nothing
 *   WHOLE           a sync of a range, which makes nothing durable, ends the process
 *   FAILING_SYNCS   fdatasync and fsync fail with EIO  } while the file
 *   FULL_FOR        writes fail with ENOSPC            } FAILING_WHILE is there
 *   STALLED         writes do not come to an end       }
 *   STUCK           threads of this name do no more    }
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int is_about(int fd, const char *variable)
{
    const char *word = getenv(variable);
    char link[64], name[4096];
    ssize_t length;

    if (!word)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, name, sizeof name - 1);
    if (length < 0)
        return 0;
    name[length] = 0;
    return strstr(name, word) != NULL;
}

static int is_failing(void)
{
    const char *file = getenv("FAILING_WHILE");
    int before = errno, there = file && access(file, F_OK) == 0;

    errno = before;
    return there;
}

static int sync_as(const char *function, int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, function);

    if (is_about(fd, "UNSYNCED"))
        return 0;
    if (is_about(fd, "FAILING_SYNCS") && is_failing()) {
        errno = EIO;
        return -1;
    }
    return next(fd);
}

int fdatasync(int fd) { return sync_as("fdatasync", fd); }
int fsync(int fd) { return sync_as("fsync", fd); }

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned int flags)
{
    int (*next)(int, off64_t, off64_t, unsigned int) =
        (int (*)(int, off64_t, off64_t, unsigned int))dlsym(RTLD_NEXT, "sync_file_range");
    int done = next(fd, offset, length, flags), before = errno;

    if (done == 0 && is_about(fd, "WHOLE"))
        abort();
    errno = before;
    return done;
}

static void wait_if_stalled(int fd)
{
    const struct timespec moment = {0, 10 * 1000 * 1000};

    if (is_about(fd, "STALLED"))
        while (is_failing())
            nanosleep(&moment, NULL);
}

ssize_t write(int fd, const void *bytes, size_t length)
{
    ssize_t (*next)(int, const void *, size_t) = (ssize_t (*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write");

    wait_if_stalled(fd);
    return next(fd, bytes, length);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset)
{
    ssize_t (*next)(int, const void *, size_t, off64_t) =
        (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");

    if (is_about(fd, "FULL_FOR") && is_failing()) {
        errno = ENOSPC;
        return -1;
    }
    return next(fd, bytes, length, offset);
}

static int is_stuck(void)
{
    const char *word = getenv("STUCK");
    char name[16];

    return word && prctl(PR_GET_NAME, name) == 0 && strcmp(name, word) == 0 && is_failing();
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    int (*next)(int, struct epoll_event *, int, int) =
        (int (*)(int, struct epoll_event *, int, int))dlsym(RTLD_NEXT, "epoll_wait");
    int found = next(epoll, events, most, timeout), before = errno;

    while (is_stuck())
        usleep(20 * 1000);
    errno = before;
    return found;
}
