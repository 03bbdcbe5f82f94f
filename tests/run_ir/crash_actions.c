/* What a program that handles signals sees of the handler that stands for the default: nothing. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void handler(int s) { printf("handled %d\n", s); fflush(stdout); _exit(7); }
__attribute__((noinline)) static void writes(int n) { *(volatile int *)8 = n; }

int main(int argc, char **argv) {
    int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
    for (int i = 0; i < 7; i++) {
        struct sigaction old;
        memset(&old, 1, sizeof old);
        sigaction(signals[i], NULL, &old);
        printf("%d: %d %d\n", signals[i], old.sa_handler == SIG_DFL, old.sa_flags);
        printf("%d\n", signal(signals[i], SIG_DFL) == SIG_DFL);
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    if (strcmp(argv[1], "handled") == 0) sigaction(SIGSEGV, &action, NULL);
    if (strcmp(argv[1], "no longer handled") == 0) {
        sigaction(SIGSEGV, &action, NULL);
        printf("%d\n", signal(SIGSEGV, SIG_DFL) == handler);
    }
    if (strcmp(argv[1], "ignored") == 0) signal(SIGABRT, SIG_IGN);
    fflush(stdout);
    if (strcmp(argv[1], "killed") == 0) system("kill -SEGV $PPID");
    if (strcmp(argv[1], "ignored") == 0) raise(SIGABRT);
    else writes(1);
    return 0;
}
