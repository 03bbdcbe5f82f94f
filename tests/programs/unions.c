/* Unions: punning, tagged values by value, anonymous members, with function pointers, initialised globals. */
#include <stdint.h>
#include <stdio.h>

union number { double d; uint64_t u; float f[2]; };
struct value { enum { INT, REAL, TEXT, CALL } kind; union { long i; double r; const char *t; long (*f)(long); }; };
static long square(long x) { return x * x; }
static struct value table[] = {{INT, {.i = 7}}, {REAL, {.r = 2.5}}, {TEXT, {.t = "text"}}, {CALL, {.f = square}}};
static union { struct { short low, high; }; int whole; } halves = {.whole = 0x00070003};

static long number(struct value v) {
    switch (v.kind) {
    case INT: return v.i;
    case REAL: return (long)(v.r * 2);
    case TEXT: return v.t[1];
    default: return v.f(9);
    }
}
static struct value promote(struct value v) { return v.kind == INT ? (struct value){REAL, {.r = (double)v.i}} : v; }
static union number flip(union number n) { n.u ^= 1ul << 63; return n; }

int main(void) {
    for (int i = 0; i < 8; i++) {
        table[i % 4] = promote(table[i % 4]);
        printf("%ld %d ", number(table[i % 4]), table[i % 4].kind);
    }
    union number n = flip((union number){.d = 1.5});
    printf("\n%g %lx %g %d %d\n", n.d, (unsigned long)n.u, n.f[1], halves.low, halves.high);
    return 0;
}
