/* Bit fields: packed, signed, across units, in unions, in a static array. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct flags { unsigned a : 3, b : 5; int c : 7; unsigned long d : 33; _Bool e : 1; };
struct __attribute__((packed)) packed { char tag; uint32_t value; uint16_t tail : 12, rest : 4; };
union view { struct flags f; uint64_t words[2]; };
static struct flags table[] = {{1, 2, -3, 4, 1}, {7, 31, 63, 0x1ffffffffu, 0}, {0}};

static void change(struct flags *f, int i) { f->a += (unsigned)i; f->b ^= 21; f->c -= i; f->d = f->d * 3 + 1; f->e = !f->e; }
static long read(struct flags f) { return (long)f.a * 1000000 + f.b * 10000 + f.c * 100 + (long)(f.d % 100) + f.e; }
static uint32_t unaligned(const struct packed *p) { return p->value + p->tail * p->rest; }

int main(void) {
    for (int i = 0; i < 9; i++) {
        change(&table[i % 3], i);
        printf("%ld ", read(table[i % 3]));
    }
    struct packed p[2] = {{'x', 0xdeadbeef, 0xabc, 5}, {'y', 17, 1, 2}};
    union view v;
    memset(&v, 0, sizeof v);
    v.f.b = 9;
    printf("\n%u %u %zu %lu\n", unaligned(p), unaligned(p + 1), sizeof p, (unsigned long)v.words[0]);
    return 0;
}
