/* Structs among variable arguments: in integer registers, in vector registers, in both, in memory; empty registers. */
#include <stdarg.h>
#include <stdio.h>

struct ints { int a, b, c; };
struct reals { float x, y; };
struct mixed { double d; long l; };
struct big { long v[4]; char tail; };
struct aligned { _Alignas(32) int v; };

static double add(const char *kinds, ...) {
    va_list args;
    va_start(args, kinds);
    double sum = 0;
    for (; *kinds; kinds++) {
        switch (*kinds) {
        case 'i': { struct ints s = va_arg(args, struct ints); sum += s.a + s.b * 10 + s.c * 100; break; }
        case 'r': { struct reals s = va_arg(args, struct reals); sum += s.x - s.y; break; }
        case 'm': { struct mixed s = va_arg(args, struct mixed); sum += s.d * (double)s.l; break; }
        case 'b': { struct big s = va_arg(args, struct big); sum += s.v[0] + s.v[3] + s.tail; break; }
        case 'a': { struct aligned s = va_arg(args, struct aligned); sum += s.v; break; }
        case 'w': { __int128 w = va_arg(args, __int128); sum += (double)(w >> 64); break; }
        case 'd': sum += va_arg(args, double); break;
        default: sum += va_arg(args, int);
        }
    }
    va_end(args);
    return sum;
}

int main(void) {
    struct ints i = {1, 2, 3};
    struct reals r = {2.5f, 1.25f};
    struct mixed m = {0.5, 9};
    struct big b = {{1000, 0, 0, 2000}, 7};
    struct aligned a = {55};
    __int128 w = (__int128)77 << 64;
    printf("%g %g %g\n", add("i", i), add("rmb", r, m, b), add("bbii", b, b, i, i));
    printf("%g\n", add("mmmmmmmm", m, m, m, m, m, m, m, m));
    printf("%g\n", add("nwnaidrdddddddbw", 1, w, 2, a, i, 0.5, r, 1., 2., 3., 4., 5., 6., 7., b, w));
    double (*indirect)(const char *, ...) = add;
    printf("%g\n", indirect("bdn", b, 0.25, 3));
    return 0;
}
