/* Handlers by signal: raised, nested, reset, ignored, and handlers that install others. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t seen[65], depth;
static int noise(int x) { return x * 7 % 5; }
static void count(int s) { seen[s] += 1 + noise(0); }
static void nested(int s) { seen[s]++; if (++depth < 3) raise(SIGUSR2); depth--; }
static void replaces(int s) { seen[s]++; signal(s, count); }
static void (*previous)(int);

int main(void) {
    previous = signal(SIGUSR1, count);
    printf("%d\n", previous == SIG_DFL);
    for (int i = 0; i < 4; i++) raise(SIGUSR1);
    previous = signal(SIGUSR1, nested);
    printf("%d %d\n", previous == count, seen[SIGUSR1]);
    signal(SIGUSR2, replaces);
    raise(SIGUSR1);
    raise(SIGUSR2);
    kill(getpid(), SIGUSR2);
    printf("%d %d\n", seen[SIGUSR1], seen[SIGUSR2]);
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    printf("%d %d\n", seen[SIGUSR1], (int)depth);
    fflush(stdout);
    signal(SIGUSR1, SIG_DFL);
    kill(getpid(), SIGUSR1);
    return 0;
}
