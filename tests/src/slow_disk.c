/* Preloaded into a server: every sync takes so many milliseconds longer as the file named by
 * HOLDFAST_SLOW_DISK says; while there is no such file, nothing is changed. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void dawdle(void) {
    const char *path = getenv("HOLDFAST_SLOW_DISK");
    FILE *file = path ? fopen(path, "r") : NULL;
    long ms = 0;
    if (!file) return;
    if (fscanf(file, "%ld", &ms) == 1 && ms > 0) {
        struct timespec pause = {ms / 1000, ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
    }
    fclose(file);
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
