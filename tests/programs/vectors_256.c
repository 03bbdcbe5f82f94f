/* Vectors of 256 and 512 bits on a machine of 128: split over registers and memory, at all calls alike. */
#include <stdio.h>

typedef int i8 __attribute__((vector_size(32)));
typedef double d4 __attribute__((vector_size(32)));
typedef short s32 __attribute__((vector_size(64)));
static i8 table[3] = {{1, 2, 3, 4, 5, 6, 7, 8}, {8, 7, 6, 5, 4, 3, 2, 1}, {0, 9, 0, 9, 0, 9, 0, 9}};
struct holder { char tag; d4 value; };

static int sum(i8 v) { int s = 0; for (int i = 0; i < 8; i++) s = s * 3 + v[i]; return s; }
static i8 mix(i8 a, i8 b, int by) { return a * b + (a << by) - (b > a); }
static struct holder grow(struct holder h, d4 by) { h.value = h.value * by + 0.5; h.tag++; return h; }
static s32 spread(short x) { s32 v = {0}; for (int i = 0; i < 32; i++) v[i] = (short)(x * i); return v; }
static int total(s32 v, s32 w) { int s = 0; for (int i = 0; i < 32; i++) s += v[i] * w[31 - i]; return s; }

int main(void) {
    struct holder h = {'a', {1, 2, 3, 4}};
    for (int i = 0; i < 4; i++) {
        table[i % 3] = mix(table[i % 3], table[(i + 1) % 3], i);
        h = grow(h, (d4){0.5, 1, 1.5, i});
        printf("%d %c %g %g %d\n", sum(table[i % 3]), h.tag, h.value[0], h.value[3], total(spread((short)i), spread(3)));
    }
    return 0;
}
