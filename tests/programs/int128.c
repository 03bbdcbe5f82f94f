/* 128-bit integers: arithmetic by libgcc, shifts, as arguments, in structs, compared, to and from double. */
#include <stdio.h>

typedef __int128 wide;
typedef unsigned __int128 uwide;
struct holder { char tag; wide value; };
static wide global = (wide)1 << 100;

static void show(wide v) {
    char text[48], *p = text + 47;
    uwide u = v < 0 ? -(uwide)v : (uwide)v;
    *p = 0;
    do *--p = (char)('0' + (int)(u % 10)); while (u /= 10);
    if (v < 0) *--p = '-';
    printf("%s ", p);
}
static wide mixed(int a, wide b, int c, wide d, wide e, wide f) { return a * b - c * d + e / f; }
static uwide gcd(uwide a, uwide b) { return b ? gcd(b, a % b) : a; }
static uwide power(uwide b, unsigned n, uwide m) { uwide r = 1; for (; n; n >>= 1, b = b * b % m) if (n & 1) r = r * b % m; return r; }
static struct holder change(struct holder h, wide by) { h.value = h.value * by + h.tag; return h; }

int main(void) {
    for (int i = -3; i < 4; i++) {
        show(mixed(i, global, 7, (wide)i << 90, global * i, 1000003 + i));
        show((wide)i >> 1);
        show(change((struct holder){'x', (wide)i << 64}, 12345678901234567).value);
        printf("%d %g\n", (wide)i * global < global, (double)(global * i));
    }
    show((wide)gcd((uwide)1 << 90, 3 * ((uwide)1 << 70)));
    show((wide)power(3, 1000, ((uwide)1 << 61) - 1));
    show((wide)1e30);
    wide r;
    printf("%d %d\n", __builtin_mul_overflow(global, global, &r), __builtin_add_overflow(global, global, &r));
    global += 1;
    show(global);
    printf("\n");
    return 0;
}
