/* Vectors of 128 bits: in registers as arguments and results, shuffled, compared, converted, in a global. */
#include <stdio.h>

typedef float f4 __attribute__((vector_size(16)));
typedef int i4 __attribute__((vector_size(16)));
typedef unsigned char b16 __attribute__((vector_size(16)));
typedef double d2 __attribute__((vector_size(16)));
static f4 state = {1, 2, 3, 4};
static const b16 reverse = {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};

static f4 spin(f4 v, f4 by) { return __builtin_shufflevector(v, by, 1, 2, 7, 0) * by; }
static i4 pick(i4 mask, i4 a, i4 b) { return (mask & a) | (~mask & b); }
static i4 larger(i4 a, i4 b) { return pick(a > b, a, b); }
static b16 turn(b16 v) { b16 r; for (int i = 0; i < 16; i++) r[i] = v[reverse[i]]; return r; }
static d2 many(d2 a, d2 b, d2 c, d2 d, d2 e, d2 f, d2 g, d2 h, d2 i, d2 j) { return a + b * c - d / e + f * g - h + i * j; }
static f4 (*const steps[])(f4, f4) = {spin, spin};

int main(void) {
    for (int i = 0; i < 5; i++) {
        state = steps[i & 1](state, (f4){0.5f, 1.5f, 2, (float)i});
        i4 whole = __builtin_convertvector(state, i4), most = larger(whole, (i4){i, 2, 1, 0});
        printf("%g %g %g %g | %d %d %d %d\n", state[0], state[1], state[2], state[3], most[0], most[1], most[2], most[3]);
        state += 1;
    }
    b16 bytes = {'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p'};
    bytes = turn(bytes);
    printf("%.16s\n", (const char *)&bytes);
    d2 x = {1, 2};
    d2 r = many(x, x, x, x, x + 1, x, x, x, x * 3, x);
    printf("%g %g\n", r[0], r[1]);
    return 0;
}
