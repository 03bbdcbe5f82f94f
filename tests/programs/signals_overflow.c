/* A stack overflow caught on an alternate stack, and left by siglongjmp, twice. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static sigjmp_buf back;
static volatile int zero;
static void handler(int s) { siglongjmp(back, s); }
static int forever(int n) { volatile char room[1000]; room[n % 1000] = 1; return forever(n + 1 - zero) + room[0]; }

int main(void) {
    struct rlimit small = {1 << 20, RLIM_INFINITY};
    getrlimit(RLIMIT_STACK, &small);
    small.rlim_cur = 1 << 20;
    setrlimit(RLIMIT_STACK, &small);
    stack_t alternate = {.ss_sp = malloc(64 << 10), .ss_size = 64 << 10};
    sigaltstack(&alternate, NULL);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    volatile int caught = 0;
    for (volatile int i = 0; i < 2; i++) {
        if (sigsetjmp(back, 1)) caught++;
        else printf("%d\n", forever(0));
    }
    printf("%d\n", caught);
    return 0;
}
