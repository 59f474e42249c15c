/* Preloaded into a server: keeps in the file named by HOLDFAST_SYNCED how long each file was when it
 * was last synced, so that a test can take away what no sync has promised. The file is a table of
 * inodes and lengths; when it is full the oldest entry goes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTRIES 1024

struct entry {
    uint64_t inode, len;
};

static struct entry *table;
static unsigned oldest;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void map_table(void) {
    const char *path = getenv("HOLDFAST_SYNCED");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *page;
    if (fd < 0) return;
    page = mmap(NULL, ENTRIES * sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED) table = page;
}

static void note(uint64_t inode, uint64_t len) {
    struct entry *entry = NULL;
    unsigned at;
    pthread_mutex_lock(&lock);
    for (at = 0; at < ENTRIES && !entry; at++)
        if (table[at].inode == inode || table[at].inode == 0) entry = &table[at];
    if (!entry) entry = &table[oldest++ % ENTRIES];
    /* Half an entry would promise too much or too little: a length of a file that is not there. */
    entry->inode = inode;
    entry->len = len;
    pthread_mutex_unlock(&lock);
}

static int sync_and_note(int fd, const char *name) {
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat before;
    /* What is written while the sync runs is not promised by it. */
    int known = table && fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int result = next(fd);
    if (known && result == 0) note(before.st_ino, before.st_size);
    return result;
}

int fdatasync(int fd) { return sync_and_note(fd, "fdatasync"); }

int fsync(int fd) { return sync_and_note(fd, "fsync"); }
