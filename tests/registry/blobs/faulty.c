/* A disk that fails: preloaded into a process, it lets the n-th call of a kind fail, once or from then on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>

static char armed[16];
static long left, times;
static int error_number;

/* Let the n-th call of a kind (sync, write, name) and the `count - 1` after it fail with an errno. */
void faulty_arm(const char *kind, long n, long count, int number)
{
    strncpy(armed, kind, sizeof armed - 1);
    left = n;
    times = count;
    error_number = number;
}

/* How many calls of the kind are still to come before the one that fails. */
long faulty_left(void) { return left; }

static int fails(const char *kind)
{
    if (strcmp(kind, armed) != 0)
        return 0;
    if (left > 0 && --left > 0)
        return 0;
    if (times <= 0)
        return 0;
    times--;
    errno = error_number;
    return 1;
}

static int is_file(int fd)
{
    struct stat status;
    int kept = errno, answer = fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
    errno = kept;
    return answer;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) \
        real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

int fsync(int fd) { REAL(int, "fsync", int); return fails("sync") ? -1 : real(fd); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); return fails("sync") ? -1 : real(fd); }

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(ssize_t, "write", int, const void *, size_t);
    return is_file(fd) && fails("write") ? -1 : real(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t place)
{
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return fails("write") ? -1 : real(fd, data, size, place);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t place) { return pwrite64(fd, data, size, place); }

int ftruncate64(int fd, off64_t size)
{
    REAL(int, "ftruncate64", int, off64_t);
    return fails("write") ? -1 : real(fd, size);
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

int rename(const char *from, const char *to)
{
    REAL(int, "rename", const char *, const char *);
    return fails("name") ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t mode)
{
    REAL(int, "mkdir", const char *, mode_t);
    return fails("name") ? -1 : real(path, mode);
}

int unlink(const char *path)
{
    REAL(int, "unlink", const char *);
    return fails("name") ? -1 : real(path);
}
