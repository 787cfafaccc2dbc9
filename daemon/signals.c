#include "daemon/signals.h"

#include <signal.h>

const int signals_numbers[SIGNALS_COUNT] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1};

static void change_mask(int how)
{
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < SIGNALS_COUNT; i++)
        sigaddset(&set, signals_numbers[i]);
    sigprocmask(how, &set, NULL);
}

void signals_hold(void)
{
    change_mask(SIG_BLOCK);
}

void signals_release(void)
{
    change_mask(SIG_UNBLOCK);
}

bool signals_ask_to_stop(void)
{
    sigset_t waiting;
    sigpending(&waiting);
    return sigismember(&waiting, SIGTERM) == 1 || sigismember(&waiting, SIGINT) == 1;
}
