/* Variable arguments, given and taken: integers, doubles, pointers, structs; more than fit in registers. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct pair { long a, b; };
struct big { double d[5]; };

static long sum(int count, ...) {
    va_list args;
    va_start(args, count);
    long total = 0;
    for (int i = 0; i < count; i++) total += va_arg(args, long);
    va_end(args);
    return total;
}

static double mixed(const char *what, ...) {
    va_list args, again;
    va_start(args, what);
    va_copy(again, args);
    double total = 0;
    for (const char *c = what; *c; c++) switch (*c) {
        case 'i': total += va_arg(args, int); break;
        case 'd': total += va_arg(args, double); break;
        case 's': total += strlen(va_arg(args, const char *)); break;
        case 'L': total += (double)va_arg(args, long double); break;
        case 'p': { struct pair p = va_arg(args, struct pair); total += p.a * p.b; break; }
        case 'b': { struct big b = va_arg(args, struct big); total += b.d[0] - b.d[4]; break; }
    }
    if (*what == 'i') total *= va_arg(again, int);
    va_end(again);
    va_end(args);
    return total;
}

static int format(char *out, size_t size, const char *how, ...) {
    va_list args;
    va_start(args, how);
    int length = vsnprintf(out, size, how, args);
    va_end(args);
    return length;
}

static int forward(const char *how, va_list args) { return vprintf(how, args); }
static int say(const char *how, ...) {
    va_list args;
    va_start(args, how);
    int length = forward(how, args);
    va_end(args);
    return length;
}

int main(void) {
    long (*indirect)(int, ...) = sum;
    printf("%ld %ld\n", sum(3, 1L, 2L, 3L), indirect(10, 1L, 2L, 3L, 4L, 5L, 6L, 7L, 8L, 9L, 10L));
    struct pair p = {6, 7};
    struct big b = {{1.5, 2, 3, 4, 0.25}};
    printf("%g\n", mixed("idsLpbiiidddddddd", 2, 0.5, "four", 1.25L, p, b, 1, 2, 3, 1., 2., 3., 4., 5., 6., 7., 8.));
    char text[64];
    int length = format(text, sizeof text, "%s-%05d-%.3f", "abc", 42, 2.0 / 3);
    return say("%d %s %c %ld\n", length, text, 'x', 123456789012L) - 41;
}
