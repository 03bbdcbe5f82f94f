/* Recursion without an end dies of SIGSEGV. */
#include <stdio.h>
#include <sys/resource.h>

static volatile int zero;
static int forever(int n) { volatile char room[512]; room[n & 511] = (char)n; return forever(n + 1 - zero) + room[(n + 1) & 511]; }

int main(void) {
    struct rlimit small = {1 << 20, 1 << 20};
    setrlimit(RLIMIT_STACK, &small);
    printf("going down\n");
    fflush(stdout);
    printf("%d\n", forever(0));
    return 0;
}
