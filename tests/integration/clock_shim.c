/* Preloaded into a program: its wall clock is wrong by as many microseconds as the file
 * $CLOCK_OFFSET holds (one int64_t), which may change at any time, as when somebody sets the clock.
 * A timer that waits is not cancelled, but the next one that is set is told of it. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t no_offset_us = 0;
static const volatile int64_t *offset_us = &no_offset_us;

__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("CLOCK_OFFSET");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *page = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset_us, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (page != MAP_FAILED)
        offset_us = page;
}

static void shift(struct timespec *at, int64_t us)
{
    int64_t ns = at->tv_nsec + us % 1000000 * 1000;
    at->tv_sec += us / 1000000 + (ns < 0 ? -1 : ns / 1000000000);
    at->tv_nsec = (ns + 1000000000) % 1000000000;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, at);
    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        shift(at, *offset_us);
    return rc;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    *at = (struct timeval){now.tv_sec, now.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at != NULL)
        *at = now.tv_sec;
    return now.tv_sec;
}

int timerfd_settime(int fd, int flags, const struct itimerspec *value, struct itimerspec *old)
{
    static int64_t known_us = INT64_MIN;
    struct itimerspec real = *value;
    int64_t now_us = *offset_us;
    bool was_set = flags & TFD_TIMER_CANCEL_ON_SET && known_us != INT64_MIN && known_us != now_us;
    if (flags & TFD_TIMER_CANCEL_ON_SET)
        known_us = now_us;
    if (flags & TFD_TIMER_ABSTIME)
        shift(&real.it_value, -now_us);
    int rc = (int)syscall(SYS_timerfd_settime, fd, flags, &real, old);
    if (rc < 0 || !was_set)
        return rc;
    errno = ECANCELED; /* it is set all the same */
    return -1;
}
