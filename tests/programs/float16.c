/* _Float16: arithmetic through libgcc's conversions, arrays, arguments, in unions. */
#include <stdio.h>

static _Float16 table[16];
static _Float16 step(_Float16 x, _Float16 y) { return x * y + (_Float16)0.1f; }
static float up(_Float16 x) { return x; }
static _Float16 down(double d) { return (_Float16)d; }
static unsigned bits(_Float16 h) { union { _Float16 h; unsigned short u; } v = {h}; return v.u; }
static int order(_Float16 a, _Float16 b) { return a < b ? -1 : a > b ? 1 : a == b ? 0 : 9; }

int main(void) {
    for (int i = 0; i < 16; i++) table[i] = i ? step(table[i - 1], (_Float16)1.5f) : (_Float16)1;
    for (int i = 0; i < 16; i += 3) printf("%g %x\n", up(table[i]), bits(table[i]));
    printf("%g %g %g %x\n", up(down(65504)), up(down(1e6)), up(down(1e-7)), bits(down(-0.0)));
    printf("%d %d %d %d\n", order(1, 2), order(2, 1), order(1, 1), order(down(0) / down(0), 1));
    return (int)table[4];
}
