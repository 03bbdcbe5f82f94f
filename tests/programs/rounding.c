/* The rounding mode of the processor, changed at run time around functions that must not be moved over it. */
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#pragma STDC FENV_ACCESS ON

static volatile double one = 1, three = 3, big = 1e308;
static double third(void) { return one / three; }
static long nearest(double x) { return lrint(x); }
static float narrow(double x) { return (float)x; }

int main(void) {
    static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    for (int i = 0; i < 4; i++) {
        fesetround(modes[i]);
        volatile double t = third(), m = -third();
        volatile float f = narrow(one / three);
        long a = nearest(2.5), b = nearest(-2.5);
        fesetround(FE_TONEAREST);
        printf("%a %a %a %ld %ld\n", t, m, f, a, b);
    }
    feclearexcept(FE_ALL_EXCEPT);
    volatile double over = big * three;
    printf("%d %d\n", fetestexcept(FE_OVERFLOW) != 0, isinf(over));
    return 0;
}
