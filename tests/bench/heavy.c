/* Preloaded into a program, it makes it as heavy as HEAVY_MB says, with memory that was touched,
 * and notes how long each posix_spawn kept it: the time in the middle and that of the worst
 * hundredth (µs), written to the file HEAVY_TIMES when it ends. */
#include <dlfcn.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_TIMES 100000

typedef int spawn_function(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const argv[],
                           char *const envp[]);

char *ballast; /* not static: the compiler would drop what nobody reads */
static spawn_function *spawn;
static int times_us[MAX_TIMES];
static int count;

__attribute__((constructor)) static void load(void)
{
    const char *megabytes = getenv("HEAVY_MB");
    size_t size = megabytes == NULL ? 0 : strtoul(megabytes, NULL, 10) << 20;
    ballast = malloc(size + 1);
    *(void **)&spawn = dlsym(RTLD_NEXT, "posix_spawn");
    if (ballast == NULL || spawn == NULL)
        abort();
    memset(ballast, 1, size + 1);
}

static int now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int)(now.tv_sec % 1000 * 1000000 + now.tv_nsec / 1000);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    int begin_us = now_us();
    int code = spawn(pid, path, actions, attributes, argv, envp);
    int took_us = now_us() - begin_us;
    if (count < MAX_TIMES && took_us >= 0)
        times_us[count++] = took_us;
    return code;
}

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

__attribute__((destructor)) static void save(void)
{
    const char *path = getenv("HEAVY_TIMES");
    FILE *file = path == NULL || count == 0 ? NULL : fopen(path, "we");
    if (file == NULL)
        return;
    qsort(times_us, (size_t)count, sizeof *times_us, compare);
    fprintf(file, "%d %d\n", times_us[count / 2], times_us[count - 1 - count / 100]);
    fclose(file);
}
