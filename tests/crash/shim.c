/* Power loss for tests: what a file holds after losing everything that was never synced.
 *
 * Preloaded into a process, it follows the files below $REACTOR_SHIM_DIR. Next to each file F it keeps F.synced, an
 * image that only fsync and fdatasync of F advance, by the writes that had returned when the sync was called. A file
 * that was never synced has no image. Names ending in -shm, .lock, .synced or .dropped are not followed (-shm is mapped
 * memory).
 *
 * To $REACTOR_SHIM_TRACE, if set, it appends one record per event, in order:
 *     kind (1 byte), sequence (8, little endian), length of payload (4, little endian), payload
 *     W  a write to a -wal file: offset (8, little endian), bytes
 *     S  a sync of a -wal file that has returned: the sequence number (8, little endian) up to which it covers writes
 *     R  bytes about to go into a socket that contain "MutationResponse"
 *
 * $REACTOR_SHIM_FAIL_SYNC=n makes the nth sync of a -wal file (from 1) fail with EIO the way Linux does: the process
 * goes on seeing what it wrote, the disk never gets it, and the next sync succeeds without it. F.dropped then says so to
 * the next process, which is taken to start right after the failure: what it finds in F looks clean to the kernel.
 *
 * While the file named by $REACTOR_SHIM_FULL exists, the disk is full: writes to followed files fail with ENOSPC.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FD 65536
#define NAME_BYTES 4200
#define SHADOW_BYTES (NAME_BYTES + 16)
#define DROPPED "%.*s.dropped", (int)(strlen(file->shadow) - 7), file->shadow
#define MARK "\"MutationResponse\""

typedef struct Change {
    struct Change *next;
    uint64_t sequence;
    off_t offset;
    size_t length;
    char *bytes; /* NULL: truncate to offset */
} Change;

typedef struct File {
    struct File *next;
    dev_t device;
    ino_t inode;
    char shadow[SHADOW_BYTES];
    int is_wal;
    int is_gone; /* unlinked: nothing of it can come back */
    Change *first, *last;
} File;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static File *files;
static File *by_fd[MAX_FD];
static uint64_t sequence;
static int trace_fd = -1;
static long wal_syncs, failing_sync;
static char directory[NAME_BYTES];
static const char *full_marker;
static size_t directory_length;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*real_pwritev)(int, const struct iovec *, int, off_t);
static ssize_t (*real_pwritev2)(int, const struct iovec *, int, off_t, int);
static ssize_t (*real_send)(int, const void *, size_t, int);
static ssize_t (*real_sendto)(int, const void *, size_t, int, const struct sockaddr *, socklen_t);
static ssize_t (*real_sendmsg)(int, const struct msghdr *, int);
static int (*real_ftruncate)(int, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_unlink)(const char *);
static int (*real_rename)(const char *, const char *);
static int (*real_close)(int);

__attribute__((constructor)) static void start(void) {
    static int started;
    if (started++) return;
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_pwritev = dlsym(RTLD_NEXT, "pwritev64");
    real_pwritev2 = dlsym(RTLD_NEXT, "pwritev64v2");
    real_send = dlsym(RTLD_NEXT, "send");
    real_sendto = dlsym(RTLD_NEXT, "sendto");
    real_sendmsg = dlsym(RTLD_NEXT, "sendmsg");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_rename = dlsym(RTLD_NEXT, "rename");
    real_close = dlsym(RTLD_NEXT, "close");
    const char *text = getenv("REACTOR_SHIM_DIR");
    if (text && realpath(text, directory)) directory_length = strlen(directory);
    text = getenv("REACTOR_SHIM_TRACE");
    if (text) trace_fd = real_open(text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    full_marker = getenv("REACTOR_SHIM_FULL");
    text = getenv("REACTOR_SHIM_FAIL_SYNC");
    if (text) failing_sync = atol(text);
}

static void die(const char *what) {
    perror(what);
    abort(); /* a shim that lost track would make a test pass or fail for no reason */
}

static void write_all(int fd, const char *bytes, size_t length) {
    while (length) {
        ssize_t done = real_write(fd, bytes, length);
        if (done < 0) die("shim: write");
        bytes += done, length -= done;
    }
}

static void trace(char kind, const void *head, size_t head_length, const void *body, size_t body_length) {
    if (trace_fd < 0) return;
    uint32_t length = head_length + body_length;
    char *record = malloc(13 + length);
    if (!record) die("shim: malloc");
    record[0] = kind;
    memcpy(record + 1, &sequence, 8);
    memcpy(record + 9, &length, 4);
    memcpy(record + 13, head, head_length);
    memcpy(record + 13 + head_length, body, body_length);
    write_all(trace_fd, record, 13 + length);
    free(record);
}

static int ends_with(const char *text, const char *end) {
    size_t a = strlen(text), b = strlen(end);
    return a >= b && !strcmp(text + a - b, end);
}

static int is_followed(const char *path) {
    return directory_length && !strncmp(path, directory, directory_length) && path[directory_length] == '/' &&
           !ends_with(path, "-shm") && !ends_with(path, ".lock") &&
           !ends_with(path, ".synced") && !ends_with(path, ".dropped");
}

static void add_change(File *file, off_t offset, const void *bytes, size_t length, int is_truncate) {
    Change *change = calloc(1, sizeof *change);
    if (!change) die("shim: calloc");
    change->sequence = ++sequence;
    change->offset = offset;
    change->length = length;
    if (!is_truncate) {
        change->bytes = malloc(length ? length : 1);
        if (!change->bytes) die("shim: malloc");
        memcpy(change->bytes, bytes, length);
    }
    if (file->last) file->last->next = change;
    else file->first = change;
    file->last = change;
}

static char *content(int fd, size_t *length) {
    struct stat status;
    if (fstat(fd, &status)) die("shim: fstat");
    char *bytes = malloc(status.st_size ? status.st_size : 1);
    if (!bytes) die("shim: malloc");
    *length = 0;
    while (*length < (size_t)status.st_size) {
        ssize_t done = pread(fd, bytes + *length, status.st_size - *length, *length);
        if (done <= 0) break;
        *length += done;
    }
    return bytes;
}

/* Start following a file that was just opened. */
static void follow(int fd, int flags) {
    char link[64], path[NAME_BYTES];
    if (fd < 0) return;
    if (fd >= MAX_FD) die("shim: descriptor out of range");
    pthread_mutex_lock(&lock);
    by_fd[fd] = NULL;
    pthread_mutex_unlock(&lock);
    if (!directory_length) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return;
    path[length] = 0;
    struct stat status;
    if (!is_followed(path) || fstat(fd, &status) || !S_ISREG(status.st_mode)) return;
    pthread_mutex_lock(&lock);
    File *file = files;
    while (file && (file->is_gone || file->device != status.st_dev || file->inode != status.st_ino)) file = file->next;
    if (!file) {
        file = calloc(1, sizeof *file);
        if (!file) die("shim: calloc");
        file->device = status.st_dev;
        file->inode = status.st_ino;
        file->is_wal = ends_with(path, "-wal");
        snprintf(file->shadow, sizeof file->shadow, "%s.synced", path);
        file->next = files;
        files = file;
        /* What an earlier process left: on disk if we know of no image, else only seen until it is synced again. */
        int has_image = !access(file->shadow, F_OK);
        if (has_image || status.st_size) {
            int reader = real_open(path, O_RDONLY | O_CLOEXEC);
            if (reader < 0) die("shim: open");
            size_t size;
            char *bytes = content(reader, &size);
            real_close(reader);
            char marker[SHADOW_BYTES];
            snprintf(marker, sizeof marker, DROPPED);
            if (!access(marker, F_OK)) {
                /* nothing that a sync would write */
            } else if (has_image) {
                add_change(file, size, NULL, 0, 1);
                add_change(file, 0, bytes, size, 0);
            } else {
                int shadow = real_open(file->shadow, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
                if (shadow < 0) die("shim: open");
                write_all(shadow, bytes, size);
                real_close(shadow);
            }
            free(bytes);
        }
    } else if (flags & O_TRUNC) {
        add_change(file, 0, NULL, 0, 1);
    }
    by_fd[fd] = file;
    pthread_mutex_unlock(&lock);
}

static File *followed(int fd) { return fd >= 0 && fd < MAX_FD ? by_fd[fd] : NULL; }

static char *joined(const struct iovec *parts, int count, size_t *length) {
    *length = 0;
    for (int i = 0; i < count; i++) *length += parts[i].iov_len;
    char *bytes = malloc(*length ? *length : 1), *end = bytes;
    if (!bytes) die("shim: malloc");
    for (int i = 0; i < count; i++) {
        memcpy(end, parts[i].iov_base, parts[i].iov_len);
        end += parts[i].iov_len;
    }
    return bytes;
}

/* Write to a followed file; the order of changes is the order of writes, since both happen under the lock. */
static ssize_t record_write(File *file, int fd, const void *bytes, size_t length, off_t offset) {
    if (full_marker && !access(full_marker, F_OK)) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&lock);
    ssize_t done = offset < 0 ? real_write(fd, bytes, length) : real_pwrite(fd, bytes, length, offset);
    int error = errno;
    if (done > 0) {
        int64_t start = offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset;
        add_change(file, start, bytes, done, 0);
        if (file->is_wal) trace('W', &start, 8, bytes, done);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

/* Called before the bytes can leave, so that the record never stands later than the moment they do. */
static void record_reply(int fd, const void *bytes, size_t length) {
    struct stat status;
    if (trace_fd < 0 || !memmem(bytes, length, MARK, sizeof MARK - 1)) return;
    if (fstat(fd, &status) || !S_ISSOCK(status.st_mode)) return;
    pthread_mutex_lock(&lock);
    sequence++;
    trace('R', NULL, 0, bytes, length);
    pthread_mutex_unlock(&lock);
}

static void record_reply_parts(int fd, const struct iovec *parts, int count) {
    if (trace_fd < 0) return;
    size_t length;
    char *bytes = joined(parts, count, &length);
    record_reply(fd, bytes, length);
    free(bytes);
}

static void apply(File *file, uint64_t through) {
    int shadow = -1;
    if (!file->is_gone) {
        shadow = real_open(file->shadow, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        if (shadow < 0) die("shim: open");
    }
    while (file->first && file->first->sequence <= through) {
        Change *change = file->first;
        if (shadow >= 0) {
            if (!change->bytes) {
                if (real_ftruncate(shadow, change->offset)) die("shim: ftruncate");
            } else if (real_pwrite(shadow, change->bytes, change->length, change->offset) != (ssize_t)change->length) {
                die("shim: pwrite");
            }
        }
        file->first = change->next;
        if (!file->first) file->last = NULL;
        free(change->bytes);
        free(change);
    }
    if (shadow >= 0) real_close(shadow);
}

static void forget(File *file, uint64_t through) {
    char marker[SHADOW_BYTES];
    snprintf(marker, sizeof marker, DROPPED);
    int fd = real_open(marker, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) die("shim: open");
    real_close(fd);
    int was_gone = file->is_gone;
    file->is_gone = 1;
    apply(file, through);
    file->is_gone = was_gone;
}

/* Nothing is left of what was dropped. */
static void remember(File *file) {
    char marker[SHADOW_BYTES];
    snprintf(marker, sizeof marker, DROPPED);
    real_unlink(marker);
}

static int sync_file(int fd, int (*real)(int)) {
    File *file = followed(fd);
    if (!file) return real(fd);
    pthread_mutex_lock(&lock);
    uint64_t through = sequence;
    if (file->is_wal && ++wal_syncs == failing_sync) {
        forget(file, through);
        pthread_mutex_unlock(&lock);
        errno = EIO;
        return -1;
    }
    pthread_mutex_unlock(&lock);
    int result = real(fd);
    int error = errno;
    if (!result) {
        pthread_mutex_lock(&lock);
        apply(file, through);
        sequence++;
        if (file->is_wal) trace('S', &through, 8, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    errno = error;
    return result;
}

/* The calls we stand in for. */

#define MODE(flags, mode)                        \
    mode_t mode = 0;                             \
    if (flags & (O_CREAT | __O_TMPFILE)) {       \
        va_list rest;                            \
        va_start(rest, flags);                   \
        mode = va_arg(rest, mode_t);             \
        va_end(rest);                            \
    }

static int opened(int fd, int flags) {
    int error = errno;
    follow(fd, flags);
    errno = error;
    return fd;
}

int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    start();
    return opened(real_open(path, flags, mode), flags);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    start();
    return opened(real_open(path, flags | O_LARGEFILE, mode), flags);
}

int openat(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    start();
    return opened(real_openat(at, path, flags, mode), flags);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE(flags, mode)
    start();
    return opened(real_openat(at, path, flags | O_LARGEFILE, mode), flags);
}

int creat(const char *path, mode_t mode) { return open(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

int creat64(const char *path, mode_t mode) { return open64(path, O_WRONLY | O_CREAT | O_TRUNC, mode); }

ssize_t write(int fd, const void *bytes, size_t length) {
    start();
    File *file = followed(fd);
    if (file) return record_write(file, fd, bytes, length, -1);
    record_reply(fd, bytes, length);
    return real_write(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    start();
    File *file = followed(fd);
    if (file) {
        size_t length;
        char *bytes = joined(parts, count, &length);
        ssize_t done = record_write(file, fd, bytes, length, -1);
        free(bytes);
        return done;
    }
    record_reply_parts(fd, parts, count);
    return real_writev(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    start();
    File *file = followed(fd);
    return file ? record_write(file, fd, bytes, length, offset) : real_pwrite(fd, bytes, length, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    start();
    File *file = followed(fd);
    if (!file) return real_pwritev(fd, parts, count, offset);
    size_t length;
    char *bytes = joined(parts, count, &length);
    ssize_t done = record_write(file, fd, bytes, length, offset);
    free(bytes);
    return done;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(fd, parts, count, offset);
}

ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t offset, int flags) {
    start();
    return followed(fd) ? pwritev64(fd, parts, count, offset) : real_pwritev2(fd, parts, count, offset, flags);
}

ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return pwritev64v2(fd, parts, count, offset, flags);
}

ssize_t send(int fd, const void *bytes, size_t length, int flags) {
    start();
    record_reply(fd, bytes, length);
    return real_send(fd, bytes, length, flags);
}

ssize_t sendto(int fd, const void *bytes, size_t length, int flags, const struct sockaddr *to, socklen_t to_length) {
    start();
    record_reply(fd, bytes, length);
    return real_sendto(fd, bytes, length, flags, to, to_length);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags) {
    start();
    record_reply_parts(fd, message->msg_iov, message->msg_iovlen);
    return real_sendmsg(fd, message, flags);
}

int ftruncate64(int fd, off64_t length) {
    start();
    File *file = followed(fd);
    if (!file) return real_ftruncate(fd, length);
    pthread_mutex_lock(&lock);
    int result = real_ftruncate(fd, length);
    int error = errno;
    if (!result) {
        add_change(file, length, NULL, 0, 1);
        if (!length) remember(file);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fsync(int fd) {
    start();
    return sync_file(fd, real_fsync);
}

int fdatasync(int fd) {
    start();
    return sync_file(fd, real_fdatasync);
}

/* Names change at once and for good, as on a file system whose journal happens to be written at that moment. */
static File *find(const char *path) {
    struct stat status;
    if (!directory_length || lstat(path, &status)) return NULL;
    for (File *file = files; file; file = file->next)
        if (!file->is_gone && file->device == status.st_dev && file->inode == status.st_ino) return file;
    return NULL;
}

int unlink(const char *path) {
    start();
    pthread_mutex_lock(&lock);
    File *file = find(path);
    int result = real_unlink(path);
    int error = errno;
    if (file && !result) {
        real_unlink(file->shadow);
        remember(file);
        file->is_gone = 1;
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int rename(const char *from, const char *to) {
    start();
    pthread_mutex_lock(&lock);
    File *file = find(from), *target = find(to);
    int result = real_rename(from, to);
    int error = errno;
    if (!result && target && target != file) {
        real_unlink(target->shadow);
        target->is_gone = 1;
    }
    if (!result && file) {
        char path[PATH_MAX], shadow[SHADOW_BYTES];
        if (!realpath(to, path)) die("shim: realpath");
        snprintf(shadow, sizeof shadow, "%s.synced", path);
        if (!access(file->shadow, F_OK)) real_rename(file->shadow, shadow);
        memcpy(file->shadow, shadow, sizeof shadow);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int close(int fd) {
    start();
    if (followed(fd)) {
        pthread_mutex_lock(&lock);
        by_fd[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return real_close(fd);
}
