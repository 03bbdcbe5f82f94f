/* Ways to die: the first argument says which, the second whether on a thread of its own. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APART __attribute__((noinline)) static int

static volatile int zero;
static void (*volatile hook)(int);

APART calls_null(int n) { hook(n); return 1; }
APART goes_down(int n) { volatile char room[500]; room[n % 500] = 1; return goes_down(n + 1 - zero) + room[0]; }
APART aborts(int n) { if (n) abort(); return 1; }
APART divides(int n) { return n / zero; }
APART traps(int n) { if (n) __builtin_trap(); return 1; }
APART writes(int n) { *(volatile int *)8 = n; return 1; }
APART counts_letters(int n) { volatile size_t l = strlen((char *)(size_t)n); return l; }
APART compares(const void *a, const void *b) { return *(const int *)a / zero + (b != NULL); }
APART sorts(int n) { int two[2] = {n, 2}; qsort(two, 2, sizeof *two, compares); return two[0]; }
APART sends_itself(int n) { return pthread_kill(pthread_self(), n ? SIGSEGV : 0) + 1; }

static const struct { const char *name; int (*function)(int); } ways[] = {
    {"calls_null", calls_null}, {"goes_down", goes_down}, {"aborts", aborts}, {"divides", divides},
    {"traps", traps}, {"writes", writes}, {"counts_letters", counts_letters}, {"compares", sorts},
    {"sends_itself", sends_itself},
};

static void *start(void *way) { return (void *)(size_t)(*(int (**)(int))way)(1); }

int main(int argc, char **argv) {
    printf("still here\n");
    fflush(stdout);
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (strcmp(ways[i].name, argv[1]) != 0) continue;
        int (*function)(int) = ways[i].function;
        if (argc == 2) return function(1);
        pthread_t thread;
        pthread_create(&thread, NULL, start, &function);
        pthread_join(thread, NULL);
    }
    return 0;
}
