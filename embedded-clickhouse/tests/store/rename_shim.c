/* Preloaded into the store by the tests: widens or breaks the gap between the engine's deduplication record and the
 * rename of the part. JA4_RENAME_DELAY_US: sleep before a part is renamed. JA4_RENAME_FAIL_FILE: while that file
 * exists, the rename of a part fails with EIO. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *from) {
    if (from == NULL || strstr(from, "tmp_insert_") == NULL)
        return 0;
    const char *delay = getenv("JA4_RENAME_DELAY_US");
    if (delay != NULL)
        usleep((useconds_t)atoi(delay));
    const char *file = getenv("JA4_RENAME_FAIL_FILE");
    return file != NULL && access(file, F_OK) == 0;
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (real == NULL)
        real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    if (fails(from)) {
        errno = EIO;
        return -1;
    }
    return real(from, to);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned int flags) {
    static int (*real)(int, const char *, int, const char *, unsigned int);
    if (real == NULL)
        real = (int (*)(int, const char *, int, const char *, unsigned int))dlsym(RTLD_NEXT, "renameat2");
    if (fails(from)) {
        errno = EIO;
        return -1;
    }
    return real(from_dir, from, to_dir, to, flags);
}
