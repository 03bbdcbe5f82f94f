/* _BitInt: odd widths and wide ones, multiplied, divided, shifted, passed and returned. */
#include <stdio.h>

typedef unsigned _BitInt(200) u200;
typedef _BitInt(37) s37;
static u200 global = 1;
static u200 factorial(unsigned n) { return n < 2 ? (u200)1 : factorial(n - 1) * n; }
static void show(u200 v) { if (v >= 10) show(v / 10); putchar('0' + (int)(v % 10)); }
static s37 wrap(s37 a, s37 b) { return a * b - (a >> 3); }
static u200 shift(u200 v, unsigned by) { return (v << by) ^ (v >> (by / 2)); }
struct pair { _BitInt(7) a; unsigned _BitInt(90) b; };
static struct pair turn(struct pair p) { return (struct pair){(_BitInt(7))(p.a + 40), p.b * 3}; }

int main(void) {
    for (unsigned n = 1; n < 45; n += 11) {
        global = global * factorial(n % 20) + n;
        show(global);
        printf(" ");
        show(shift(factorial(n % 30), n));
        struct pair p = turn((struct pair){(_BitInt(7))n, n});
        printf(" %lld %d %d\n", (long long)wrap((s37)(n * 99), (s37)(n * 77)), (int)p.a, (int)(p.b % 1000));
    }
    return 0;
}
