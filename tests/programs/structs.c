/* Structs by value: in registers, on the stack (byval), returned in registers and by sret, with floats mixed in. */
#include <stdio.h>

struct small { int a; char b; };
struct two { long a; double b; };
struct floats { float x, y, z; };
struct large { long v[6]; char name[10]; };
struct nested { struct small s; struct floats f; struct two t[2]; };

static struct small make_small(int a) { struct small s = {a, (char)('a' + a % 26)}; return s; }
static struct two make_two(long a) { struct two t = {a, a / 4.0}; return t; }
static struct floats scale(struct floats f, float by) { f.x *= by; f.y *= by; f.z *= by; return f; }
static struct large grow(struct large l, int by) { for (int i = 0; i < 6; i++) l.v[i] += by * i; l.name[0]++; return l; }
static long total(struct large l, struct small s, struct two t, struct large m) {
    long sum = s.a + s.b + t.a + (long)t.b;
    for (int i = 0; i < 6; i++) sum += l.v[i] * m.v[5 - i];
    return sum;
}
static struct nested nest(int n) { struct nested r = {make_small(n), {1, 2, (float)n}, {make_two(n), make_two(-n)}}; return r; }
static struct large by_pointer(struct large (*f)(struct large, int), struct large l) { return f(f(l, 1), 2); }

int main(void) {
    struct large l = {{1, 2, 3, 4, 5, 6}, "name"};
    for (int i = 0; i < 6; i++) {
        struct large m = by_pointer(grow, l);
        struct floats f = scale((struct floats){1, 2, 3}, (float)i / 2);
        struct nested n = nest(i);
        printf("%ld %s %g %d%c %g %g\n", total(l, make_small(i), make_two(i), m), m.name, f.x + f.y + f.z, n.s.a, n.s.b,
               n.t[1].b, n.f.z);
        l = grow(l, i);
    }
    return 0;
}
