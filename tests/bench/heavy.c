/* Preloaded into a program, it makes it as heavy as HEAVY_MB says, with memory that was touched,
 * and notes how long each posix_spawn took and how long each turn of the main thread's loop kept it
 * from its next look at what has happened. When the program ends, the times in the middle and those
 * of the worst hundredth (µs) are written to the file HEAVY_TIMES: two of posix_spawn, two of the
 * loop. */
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#define MAX_TIMES 1000000

typedef int spawn_function(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                           const posix_spawnattr_t *attributes, char *const argv[],
                           char *const envp[]);
typedef int wait_function(int epoll, struct epoll_event *events, int max_events, int timeout_ms,
                          const sigset_t *mask);

struct times {
    int us[MAX_TIMES];
    int count;
};

char *ballast; /* not static: the compiler would drop what nobody reads */
static spawn_function *spawn;
static wait_function *wait_for_events;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct times spawns, turns;

__attribute__((constructor)) static void load(void)
{
    const char *megabytes = getenv("HEAVY_MB");
    size_t size = megabytes == NULL ? 0 : strtoul(megabytes, NULL, 10) << 20;
    ballast = malloc(size + 1);
    *(void **)&spawn = dlsym(RTLD_NEXT, "posix_spawn");
    *(void **)&wait_for_events = dlsym(RTLD_NEXT, "epoll_pwait");
    if (ballast == NULL || spawn == NULL || wait_for_events == NULL)
        abort();
    memset(ballast, 1, size + 1);
}

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void note(struct times *times, int64_t since_us)
{
    pthread_mutex_lock(&mutex);
    if (times->count < MAX_TIMES)
        times->us[times->count++] = (int)(now_us() - since_us);
    pthread_mutex_unlock(&mutex);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const envp[])
{
    int64_t begin_us = now_us();
    int code = spawn(pid, path, actions, attributes, argv, envp);
    note(&spawns, begin_us);
    return code;
}

int epoll_pwait(int epoll, struct epoll_event *events, int max_events, int timeout_ms,
                const sigset_t *mask)
{
    static int64_t began_us;
    bool is_loop = gettid() == getpid();
    if (is_loop && began_us > 0)
        note(&turns, began_us);
    int count = wait_for_events(epoll, events, max_events, timeout_ms, mask);
    if (is_loop)
        began_us = now_us();
    return count;
}

/* libuv uses one or the other. */
int epoll_wait(int epoll, struct epoll_event *events, int max_events, int timeout_ms)
{
    return epoll_pwait(epoll, events, max_events, timeout_ms, NULL);
}

static int compare(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void print(FILE *file, struct times *times)
{
    int count = times->count;
    qsort(times->us, (size_t)count, sizeof *times->us, compare);
    fprintf(file, "%d %d\n", count > 0 ? times->us[count / 2] : 0,
            count > 0 ? times->us[count - 1 - count / 100] : 0);
}

__attribute__((destructor)) static void save(void)
{
    const char *path = getenv("HEAVY_TIMES");
    FILE *file = path == NULL || spawns.count == 0 ? NULL : fopen(path, "we");
    if (file == NULL)
        return;
    print(file, &spawns);
    print(file, &turns);
    fclose(file);
}
