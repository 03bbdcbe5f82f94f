/* Faults handled: SIGSEGV and SIGFPE with siglongjmp back, the address that faulted, again and again. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static sigjmp_buf back;
static void *volatile where;
static volatile int zero;
static void (*volatile nothing)(void);
static void handler(int s, siginfo_t *info, void *context) { (void)context; where = info->si_addr; siglongjmp(back, s); }
static int poke(volatile char *p) {
    int s = sigsetjmp(back, 1);
    if (s) return s;
    *p = 1;
    return 0;
}
static int divide(int x) { int s = sigsetjmp(back, 1); return s ? -s : x / zero; }
static int call(void (*f)(void)) { int s = sigsetjmp(back, 1); if (s) return s; f(); return 0; }

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = handler;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGFPE, &action, NULL);
    char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), ok = 0;
    for (int i = 0; i < 3; i++) {
        int a = poke(page + i * 1000), at = where == page + i * 1000;
        printf("%d %d %d %d %d\n", a == SIGSEGV, at, poke(&ok), divide(i + 1) == -SIGFPE, call(nothing) == SIGSEGV);
    }
    return ok;
}
