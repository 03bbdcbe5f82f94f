/* A fault repaired: the handler makes the page writable, and the store is tried again. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static char *area;
static volatile int faults;
static void repair(int s, siginfo_t *info, void *context) {
    (void)s, (void)context;
    faults++;
    mprotect((void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095), 4096, PROT_READ | PROT_WRITE);
}
static long fill(int pages) { long sum = 0; for (int i = 0; i < pages * 4096; i += 512) { area[i] = (char)i; sum += area[i] + i; } return sum; }

int main(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = repair;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
    area = mmap(NULL, 8 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int n = 2; n <= 8; n += 3) {
        long sum = fill(n);
        printf("%ld %d\n", sum, faults);
    }
    return 0;
}
