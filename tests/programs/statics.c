/* Variables of all sorts, and that they keep their values: static, global, common, aligned, volatile. */
#include <stdint.h>
#include <stdio.h>

int common_number;
double common_array[10];
static int zero[4], set[4] = {1, 2, 3, 4};
int exported = 7;
const int constant = 9;
volatile int wild = 3;
static _Alignas(64) char aligned[64] = "aligned to a cache line";
static struct { char c; double d; short s[3]; } mixed = {'m', 2.5, {1, 2, 3}};
static union { int i; float f; } both = {.f = 1.0f};

static int counter(void) { static int count; return ++count; }
static unsigned long generator(void) { static unsigned long state = 88172645463325252u; state ^= state << 13; state ^= state >> 7; return state ^= state << 17; }
static int *address(int i) { static int cells[3]; return &cells[i]; }
static const int *pointer_to(int i) { return i ? &constant : &exported; }

int main(void) {
    for (int i = 0; i < 5; i++) {
        common_number += counter();
        common_array[i] = common_number / 2.0;
        zero[i & 3] += set[i & 3];
        *address(i % 3) += i;
        wild += wild;
        mixed.s[i % 3] += (short)i;
        exported -= 2;
        printf("%d %g %d %lu %d %d %d %d\n", common_number, common_array[i], zero[i & 3], generator() % 1000, *address(i % 3), wild,
               mixed.s[i % 3], *pointer_to(i & 1));
    }
    printf("%s %d %g %x\n", aligned, (int)((uintptr_t)aligned % 64), mixed.d, both.i);
    return counter();
}
