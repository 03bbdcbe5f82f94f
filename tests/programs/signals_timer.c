/* SIGALRM by setitimer, counted until there are enough, while functions of the program run. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

static volatile sig_atomic_t ticks;
static volatile unsigned long work;
static unsigned step(unsigned x) { return x * 1664525u + 1013904223u; }
static unsigned other(unsigned x) { return x ^ x >> 7; }
static void tick(int s) { (void)s; ticks++; work = other(step((unsigned)work)); }

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = tick;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &every, NULL);
    unsigned x = 1;
    while (ticks < 20) x = other(step(x));
    setitimer(ITIMER_REAL, &off, NULL);
    printf("%d %d\n", ticks >= 20, x != 1);
    return 0;
}
