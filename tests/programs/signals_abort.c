/* A handler for SIGABRT runs also where libc itself gives up; and one that was to run once has run once. */
#include <assert.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static sigjmp_buf back;
static int times;
static void handler(int s) { times++; siglongjmp(back, s); }
static int claims(int x) { assert(x > 1); return x; }

int main(void) {
    struct sigaction action, now;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    fclose(stderr);
    for (int i = 0; i < 3; i++) {
        action.sa_flags = i == 1 ? (int)SA_RESETHAND : 0;
        sigaction(SIGABRT, &action, NULL);
        if (sigsetjmp(back, 1) == 0) claims(i % 2);
        sigaction(SIGABRT, NULL, &now);
        printf("%d %d\n", times, now.sa_handler == SIG_DFL);
    }
    if (sigsetjmp(back, 1) == 0) abort();
    printf("%d\n", times);
    fflush(stdout);
    action.sa_handler = SIG_DFL;
    sigaction(SIGABRT, &action, NULL);
    abort();
}
