/* A division by zero of integers ends by SIGFPE, that of reals does not. */
#include <stdio.h>

static volatile int zero, one = 1;
static volatile double real_zero;
static double real(double x) { return x / real_zero; }
static int whole(int x) { return x / zero; }

int main(void) {
    printf("%g %g\n", real(1), real(-1));
    fflush(stdout);
    printf("%d\n", whole(one));
    return 0;
}
