/* Preloaded into a server: every sync takes so many milliseconds longer as the file named by
 * HOLDFAST_SLOW_DISK says; while there is no such file, nothing is changed, and a sync that is being
 * held up goes on when the file goes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LOOK_MS 50

static void dawdle(void) {
    const char *path = getenv("HOLDFAST_SLOW_DISK");
    FILE *file = path ? fopen(path, "r") : NULL;
    long ms = 0;
    if (!file) return;
    if (fscanf(file, "%ld", &ms) != 1) ms = 0;
    fclose(file);
    while (ms > 0 && access(path, F_OK) == 0) {
        long part = ms < LOOK_MS ? ms : LOOK_MS;
        struct timespec pause = {0, part * 1000000};
        nanosleep(&pause, NULL);
        ms -= part;
    }
}

int fdatasync(int fd) {
    int (*next)(int) = dlsym(RTLD_NEXT, "fdatasync");
    dawdle();
    return next(fd);
}

int fsync(int fd) {
    int (*next)(int) = dlsym(RTLD_NEXT, "fsync");
    dawdle();
    return next(fd);
}
