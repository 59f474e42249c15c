/* Preloaded into a server: what it writes can be taken back as far as it is not synced, as when
 * the power fails. Before a file under HOLDFAST_POWER_DIR is written, what stood there goes to
 * HOLDFAST_POWER_UNDO/<inode>; a sync that is through deletes that. See power.rs for the layout.
 * While the file HOLDFAST_POWER_UNDO/slow is there, syncs take 300 ms longer. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct head {
    uint64_t offset, len, size;
    /* How many bytes follow: none if what stood there was zeros. */
    uint64_t kept;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Whether writes to this file are noted; its inode. */
static int is_noted(int fd, struct stat *of) {
    const char *dir = getenv("HOLDFAST_POWER_DIR");
    char link[64], path[4096];
    if (!dir || !getenv("HOLDFAST_POWER_UNDO") || fd <= 2) return 0;
    if (fstat(fd, of) || !S_ISREG(of->st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, sizeof path - 1);
    if (len < 0) return 0;
    path[len] = 0;
    return !strncmp(path, dir, strlen(dir)) && path[strlen(dir)] == '/';
}

static void undo_path(char *path, size_t len, const struct stat *of, const char *ending) {
    snprintf(path, len, "%s/%lu%s", getenv("HOLDFAST_POWER_UNDO"), (unsigned long)of->st_ino,
             ending);
}

/* Notes what stands in the place that is about to be written. */
static void note(int fd, off_t offset, size_t len) {
    struct stat of;
    char path[4096], proc[64];
    if (!len || !is_noted(fd, &of)) return;
    struct head head = {offset, len, of.st_size, 0};
    char *old = calloc(1, len);
    /* The file may be open for writing only. */
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    int reader = old ? syscall(SYS_openat, AT_FDCWD, proc, O_RDONLY) : -1;
    if (reader < 0) abort();
    syscall(SYS_pread64, reader, old, len, offset);
    syscall(SYS_close, reader);
    for (size_t at = 0; at < len && !head.kept; at++)
        if (old[at]) head.kept = len;
    pthread_mutex_lock(&lock);
    undo_path(path, sizeof path, &of, "");
    int undo = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (undo < 0 || syscall(SYS_write, undo, &head, sizeof head) != sizeof head ||
        (head.kept && syscall(SYS_write, undo, old, len) != (ssize_t)len))
        abort();
    syscall(SYS_close, undo);
    pthread_mutex_unlock(&lock);
    free(old);
}

ssize_t write(int fd, const void *bytes, size_t len) {
    off_t at = fd > 2 ? lseek(fd, 0, SEEK_CUR) : -1;
    if (at >= 0 && !(fcntl(fd, F_GETFL) & O_APPEND)) note(fd, at, len);
    errno = 0;
    return syscall(SYS_write, fd, bytes, len);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset) {
    note(fd, offset, len);
    return syscall(SYS_pwrite64, fd, bytes, len, offset);
}

static int sync_and_forget(int fd, int number) {
    struct stat of;
    char slow[4096], path[4096], syncing[4096];
    int noted = is_noted(fd, &of);
    if (noted) {
        snprintf(slow, sizeof slow, "%s/slow", getenv("HOLDFAST_POWER_UNDO"));
        struct timespec pause = {0, 300 * 1000 * 1000};
        undo_path(path, sizeof path, &of, "");
        undo_path(syncing, sizeof syncing, &of, ".syncing");
        pthread_mutex_lock(&lock);
        rename(path, syncing);
        pthread_mutex_unlock(&lock);
        if (!access(slow, F_OK)) nanosleep(&pause, NULL);
    }
    int done = syscall(number, fd);
    if (noted && !done) unlink(syncing);
    return done;
}

int fdatasync(int fd) { return sync_and_forget(fd, SYS_fdatasync); }

int fsync(int fd) { return sync_and_forget(fd, SYS_fsync); }
