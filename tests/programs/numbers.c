/* Arithmetic that needs constant pools and library routines: float, long double, __int128, complex, vectors. */
#include <complex.h>
#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>

typedef float v4 __attribute__((vector_size(16)));
typedef int v8 __attribute__((vector_size(32)));

static double polynomial(double x) { return ((0.125 * x - 3.75) * x + 1e-3) * x - 2.718281828459045; }
static float single(float x) { return sqrtf(x) * 1.1f + 0.7f; }
static long double extended(long double x) { return x * 3.14159265358979323846L + sinl(x) - fmodl(x, 0.7L); }
static __int128 wide(__int128 a, __int128 b) { return a * b + a / (b | 1) - a % (b | 1); }
static void print128(unsigned __int128 v) { if (v >= 10) print128(v / 10); putchar('0' + (int)(v % 10)); }
static v4 blend(v4 a, v4 b) { return a * b + (v4){0.5f, 1.5f, 2.5f, 3.5f}; }
static int vector_sum(v8 v) { v8 w = v * (v8){1, 2, 3, 4, 5, 6, 7, 8}; return w[0] + w[3] + w[7]; }
static double complex turn(double complex z) { return z * (0.6 + 0.8 * I) + cexp(I * 0.5); }
static uint64_t conversions(double d) { return (uint64_t)d + (uint32_t)(float)d + (uint64_t)(int64_t)-d; }
static double from_unsigned(uint64_t u) { return (double)u / 3; }
static int bits(unsigned x) { return __builtin_popcount(x) * 100 + __builtin_clz(x | 1) + __builtin_ctz(x | 256) + (int)(__builtin_bswap32(x) % 97); }
static int overflow(int a, int b) { int r; return __builtin_mul_overflow(a, b, &r) ? -1 : r; }

int main(void) {
    for (int i = 1; i < 6; i++) {
        printf("%.12g %.6g %.15Lg %.10g\n", polynomial(i * 1.7), single((float)i), extended(i), pow(i, 1.5) + atan2(i, 2) + log(i));
        print128((unsigned __int128)wide((__int128)i << 70, 1234567890123456789));
        v4 b = blend((v4){1, 2, 3, (float)i}, (v4){4, 3, 2, 1});
        double complex z = turn(i - 2 * I);
        printf(" %g %g %d %.9g %.9g\n", b[0], b[3], vector_sum((v8){1, 2, i, 4, 5, 6, 7, 8}), creal(z), cimag(z));
        printf("%llu %g %d %d\n", (unsigned long long)conversions(i * 1e9), from_unsigned(UINT64_MAX - (unsigned)i), bits(i * 12345u), overflow(i << 14, i << 15));
    }
    printf("%g %g %d %d\n", INFINITY, -0.0, isnan(NAN), signbit(-0.0) != 0);
    return 0;
}
