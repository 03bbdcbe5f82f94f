/* sigaction: information, masks, one-shot handlers, values sent along, and the old action asked for. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static volatile int last_signal, last_value, from_self, order[8], orders;
static void tell(int s, siginfo_t *info, void *context) {
    last_signal = s;
    last_value = info->si_value.sival_int;
    from_self = info->si_pid == getpid() && context != NULL;
}
static void mark(int s) { order[orders++ & 7] = s == SIGUSR1 ? 1 : 2; if (s == SIGUSR1) { raise(SIGUSR2); order[orders++ & 7] = 3; } }

int main(void) {
    struct sigaction action, old;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = tell;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGRTMIN, &action, NULL);
    sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = 1234});
    printf("%d %d %d\n", last_signal == SIGRTMIN, last_value, from_self);
    sigaction(SIGRTMIN, NULL, &old);
    printf("%d %d\n", old.sa_sigaction == tell, (old.sa_flags & SA_SIGINFO) != 0);
    memset(&action, 0, sizeof action);
    action.sa_handler = mark;
    sigaddset(&action.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &action, NULL);
    action.sa_flags = (int)SA_RESETHAND;
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR1);
    for (int i = 0; i < orders; i++) printf("%d ", order[i]);
    sigaction(SIGUSR2, NULL, &old);
    printf("%d\n", old.sa_handler == SIG_DFL);
    sigset_t set, pending;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    action.sa_handler = mark;
    sigaction(SIGUSR2, &action, NULL);
    raise(SIGUSR1);
    sigpending(&pending);
    printf("%d %d\n", sigismember(&pending, SIGUSR1), orders);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    printf("%d\n", orders);
    return 0;
}
