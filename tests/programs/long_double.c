/* x87 long double: arguments, returns, arrays, library functions, bits. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static long double values[4] = {1.0L, -2.5L, 1e4000L, LDBL_MIN};
static const long double third = 1.0L / 3;
struct pair { long double a; char c; };
static long double evaluate(long double x, int n, long double y) { return n ? evaluate(x * y + third, n - 1, y) : x; }
static struct pair swap(struct pair p) { p.a = -p.a; p.c++; return p; }
static long double mean(int n, const long double *v) { long double s = 0; for (int i = 0; i < n; i++) s += v[i] / n; return s; }
static unsigned long mantissa(long double x) { unsigned long m; memcpy(&m, &x, sizeof m); return m; }

int main(void) {
    for (int i = 0; i < 4; i++) {
        struct pair p = swap((struct pair){values[i], 'a'});
        printf("%.18Lg %.18Lg %c %lx\n", values[i], p.a, p.c, mantissa(values[i]));
    }
    printf("%.18Lg %.18Lg\n", evaluate(1, 10, 0.75L), mean(2, values));
    printf("%.15Lg %.15Lg %.15Lg\n", sqrtl(2), powl(2, 0.5L), floorl(-2.5L));
    printf("%d %d %ld %lu\n", third == (double)third, isinf(values[2] * values[2]), lroundl(1e15L / 3), (unsigned long)1.8e19L);
    return 0;
}
