/* A disk that forgets: what a power cut would leave of the files below one directory.
 *
 * Preloaded into the gateway. For every file below $POWERCUT_ROOT it keeps a durable copy below $POWERCUT_SHADOW, which is
 * brought up to date by fsync and fdatasync alone, with the bytes written since the last one. Renames, links and removals
 * reach the copy when their directory is synced, or, with $POWERCUT_META=eager, at once: a real file system may do either.
 * The real fsync is left out, since a copy in the page cache survives what the harness does. Memory maps are not followed:
 * SQLite maps only the -shm file, which it rebuilds.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 256
#define CHANGES 256

struct dirty {
    dev_t device;
    ino_t inode;
    off_t low, high;
};
struct change { /* of a directory, not yet durable */
    char kind;  /* r: rename, l: link, u: unlink */
    char from[PATH_MAX], to[PATH_MAX];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct dirty files[FILES];
static struct change changes[CHANGES];
static int changed;
static char root[PATH_MAX], shadow[PATH_MAX];
static size_t root_length;
static int eager, ready;
static volatile int fuse; /* the power fails at the fuse-th sync from now; 0: never */
static useconds_t latency_us;

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_rename)(const char *, const char *);
static int (*real_renameat)(int, const char *, int, const char *);
static int (*real_unlink)(const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_link)(const char *, const char *);
static int (*real_linkat)(int, const char *, int, const char *, int);
static int (*real_open)(const char *, int, ...);

__attribute__((constructor)) static void begin(void) {
    const char *from = getenv("POWERCUT_ROOT"), *to = getenv("POWERCUT_SHADOW"), *meta = getenv("POWERCUT_META");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_renameat = dlsym(RTLD_NEXT, "renameat");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_unlinkat = dlsym(RTLD_NEXT, "unlinkat");
    real_link = dlsym(RTLD_NEXT, "link");
    real_linkat = dlsym(RTLD_NEXT, "linkat");
    real_open = dlsym(RTLD_NEXT, "open64");
    if (from == NULL || to == NULL || strlen(from) >= sizeof root || strlen(to) >= sizeof shadow)
        return;
    strcpy(root, from);
    strcpy(shadow, to);
    root_length = strlen(root);
    eager = meta != NULL && strcmp(meta, "eager") == 0;
    const char *latency = getenv("POWERCUT_SYNC_US");
    latency_us = latency ? (useconds_t)atoi(latency) : 0;
    ready = 1;
}

/* The path below the root, from its slash on; NULL when it is none of ours. */
static const char *below(const char *path) {
    if (!ready || strncmp(path, root, root_length) != 0 || path[root_length] != '/')
        return NULL;
    size_t length = strlen(path);
    if (length > 4 && (strcmp(path + length - 4, "-shm") == 0))
        return NULL;
    return path + root_length;
}

static const char *of_descriptor(int fd, char *path) {
    char link[64];
    if (!ready)
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return NULL;
    path[length] = 0;
    return below(path);
}

static const char *of_name(const char *name, char *path) {
    char folder[PATH_MAX];
    const char *slash = strrchr(name, '/');
    if (!ready)
        return NULL;
    if (slash == NULL) {
        if (getcwd(folder, sizeof folder) == NULL)
            return NULL;
        slash = name - 1;
    } else {
        char part[PATH_MAX];
        if (slash - name >= PATH_MAX)
            return NULL;
        memcpy(part, name, slash - name);
        part[slash - name] = 0;
        if (realpath(slash == name ? "/" : part, folder) == NULL)
            return NULL;
    }
    if (snprintf(path, PATH_MAX, "%s/%s", folder, slash + 1) >= PATH_MAX)
        return NULL;
    return below(path);
}

static void shadow_of(const char *rest, char *path) {
    snprintf(path, PATH_MAX, "%.2000s%.2000s", shadow, rest);
}

static struct dirty *find(int fd, int make) {
    struct stat found;
    int empty = -1;
    if (fstat(fd, &found) != 0)
        return NULL;
    for (int i = 0; i < FILES; i++) {
        if (files[i].inode == found.st_ino && files[i].device == found.st_dev)
            return &files[i];
        if (files[i].inode == 0 && empty < 0)
            empty = i;
    }
    if (!make)
        return NULL;
    if (empty < 0) {
        fputs("powercut: too many files\n", stderr);
        _exit(99);
    }
    files[empty] = (struct dirty){found.st_dev, found.st_ino, 0, 0};
    return &files[empty];
}

static void written(int fd, off_t from, off_t to) {
    char path[PATH_MAX];
    if (to <= from || of_descriptor(fd, path) == NULL)
        return;
    pthread_mutex_lock(&lock);
    struct dirty *file = find(fd, 1);
    if (file != NULL) {
        if (file->high == file->low)
            file->low = from, file->high = to;
        if (from < file->low)
            file->low = from;
        if (to > file->high)
            file->high = to;
    }
    pthread_mutex_unlock(&lock);
}

static void make_folders(char *path) {
    for (char *at = path + strlen(shadow) + 1; *at; at++)
        if (*at == '/') {
            *at = 0;
            mkdir(path, 0700);
            *at = '/';
        }
}

static void apply(const struct change *it) {
    char from[PATH_MAX], to[PATH_MAX];
    shadow_of(it->from, from);
    if (it->kind == 'u') {
        real_unlink(from);
        return;
    }
    shadow_of(it->to, to);
    make_folders(to);
    if (access(from, F_OK) != 0) { /* the name is durable, the content never was: an empty file */
        int fd = real_open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd >= 0)
            close(fd);
    } else if (it->kind == 'r') {
        real_rename(from, to);
    } else {
        real_unlink(to);
        real_link(from, to);
    }
}

/* Say which names mean something else on the disk than they do now: their contents are not to be mixed. */
static void tell_pending(void) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s.pending", shadow);
    int fd = real_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    for (int i = 0; fd >= 0 && i < changed; i++) {
        char lines[2 * PATH_MAX + 4];
        int length = snprintf(lines, sizeof lines, "%s\n%s\n", changes[i].from, changes[i].to);
        if (real_write(fd, lines, length) != length)
            _exit(99);
    }
    close(fd);
}

/* Make the oldest changes durable. */
static void settle(int count) {
    if (count == 0)
        return;
    for (int i = 0; i < count; i++)
        apply(&changes[i]);
    memmove(changes, changes + count, (changed - count) * sizeof changes[0]);
    changed -= count;
    tell_pending();
}

static void note(char kind, const char *from, const char *to) {
    if (changed == CHANGES)
        settle(CHANGES);
    changes[changed].kind = kind;
    snprintf(changes[changed].from, PATH_MAX, "%s", from);
    snprintf(changes[changed].to, PATH_MAX, "%s", to ? to : "");
    changed++;
    if (eager)
        settle(changed);
    else
        tell_pending();
}

/* Fail at the count-th sync from now, before it has any effect. */
void powercut_at(int count) { fuse = count; }

static int synced(int fd) {
    char path[PATH_MAX], copy[PATH_MAX];
    static char block[1 << 16];
    struct stat now;
    if (of_descriptor(fd, path) == NULL) {
        if (ready && strcmp(path, root) == 0) { /* the directory itself */
            pthread_mutex_lock(&lock);
            settle(changed);
            pthread_mutex_unlock(&lock);
        }
        return 0;
    }
    const char *rest = path + root_length;
    if (fuse > 0 && __sync_sub_and_fetch(&fuse, 1) == 0)
        kill(getpid(), SIGKILL);
    if (latency_us)
        usleep(latency_us); /* as a disk takes its time; what is written meanwhile may be lost */
    if (fstat(fd, &now) != 0)
        return -1;
    pthread_mutex_lock(&lock);
    int last = 0;
    if (S_ISDIR(now.st_mode)) {
        size_t length = strlen(rest);
        for (int i = 0; i < changed; i++)
            if ((strncmp(changes[i].from, rest, length) == 0 && changes[i].from[length] == '/') ||
                (strncmp(changes[i].to, rest, length) == 0 && changes[i].to[length] == '/'))
                last = i + 1;
        settle(last);
        pthread_mutex_unlock(&lock);
        return 0;
    }
    for (int i = 0; i < changed; i++) /* a synced file is found under its present name */
        if (strcmp(changes[i].from, rest) == 0 || strcmp(changes[i].to, rest) == 0)
            last = i + 1;
    settle(last);
    shadow_of(rest, copy);
    make_folders(copy);
    int made = access(copy, F_OK) != 0;
    int to = real_open(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int from = real_open(path, O_RDONLY | O_CLOEXEC); /* a descriptor of our own: theirs may be write-only */
    if (to < 0 || from < 0) {
        fprintf(stderr, "powercut: no copy of %s: %s\n", rest, strerror(errno));
        _exit(99);
    }
    struct dirty *file = find(fd, 0);
    off_t at = made ? 0 : file ? file->low : 0, end = made ? now.st_size : file ? file->high : 0;
    while (at < end) {
        size_t wanted = end - at < (off_t)sizeof block ? (size_t)(end - at) : sizeof block;
        ssize_t got = pread(from, block, wanted, at);
        if (got <= 0)
            break;
        if (real_pwrite(to, block, got, at) != got)
            _exit(99);
        at += got;
    }
    if (real_ftruncate(to, now.st_size) != 0)
        _exit(99);
    close(from);
    close(to);
    if (file != NULL)
        file->inode = 0, file->low = file->high = 0;
    pthread_mutex_unlock(&lock);
    return 0;
}

ssize_t write(int fd, const void *data, size_t size) {
    off_t at = ready && fd > 2 ? lseek(fd, 0, SEEK_CUR) : -1;
    ssize_t done = real_write(fd, data, size);
    int saved = errno;
    if (done > 0 && at >= 0)
        written(fd, at, at + done);
    errno = saved;
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
    ssize_t done = real_pwrite(fd, data, size, at);
    int saved = errno;
    if (done > 0)
        written(fd, at, at + done);
    errno = saved;
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

int ftruncate64(int fd, off_t size) { return real_ftruncate(fd, size); } /* the size follows at the next sync */

int ftruncate(int fd, off_t size) { return real_ftruncate(fd, size); }

int fsync(int fd) { return synced(fd); }

int fdatasync(int fd) { return synced(fd); }

static void moved(char kind, const char *from, const char *to) {
    char a[PATH_MAX], b[PATH_MAX];
    const char *first = of_name(from, a), *second = to ? of_name(to, b) : NULL;
    if (first == NULL || (to && second == NULL))
        return;
    pthread_mutex_lock(&lock);
    note(kind, first, second);
    pthread_mutex_unlock(&lock);
}

int rename(const char *from, const char *to) {
    int result = real_rename(from, to);
    if (result == 0)
        moved('r', from, to);
    return result;
}

int renameat(int a, const char *from, int b, const char *to) {
    int result = real_renameat(a, from, b, to);
    if (result == 0 && a == AT_FDCWD && b == AT_FDCWD)
        moved('r', from, to);
    return result;
}

int unlink(const char *name) {
    int result = real_unlink(name);
    if (result == 0)
        moved('u', name, NULL);
    return result;
}

int unlinkat(int at, const char *name, int flags) {
    int result = real_unlinkat(at, name, flags);
    if (result == 0 && at == AT_FDCWD && !(flags & AT_REMOVEDIR))
        moved('u', name, NULL);
    return result;
}

int link(const char *from, const char *to) {
    int result = real_link(from, to);
    if (result == 0)
        moved('l', from, to);
    return result;
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    int result = real_linkat(a, from, b, to, flags);
    if (result == 0 && a == AT_FDCWD && b == AT_FDCWD)
        moved('l', from, to);
    return result;
}
