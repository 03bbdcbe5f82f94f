/* Inline assembly: inputs, outputs, tied operands, clobbers, memory, local labels, a call, and asm goto. */
#include <stdio.h>

static int seen;
static long host_called(long x) { seen++; return x + 1; }
static long add(long a, long b) { long r; __asm__("leaq (%1,%2), %0" : "=r"(r) : "r"(a), "r"(b)); return r; }
static unsigned long rotate(unsigned long v, unsigned char by) { __asm__("rolq %1, %0" : "+r"(v) : "c"(by) : "cc"); return v; }
static long clobbers(long x) {
    __asm__ volatile("movq %0, %%rbx\n\tmovq $7, %%r12\n\taddq %%r12, %%rbx\n\tmovq %%rbx, %0\n\tpxor %%xmm0, %%xmm0"
                     : "+r"(x) : : "rbx", "r12", "r13", "xmm0", "cc");
    return x;
}
static void store(int *where, int what) { __asm__ volatile("movl %1, %0" : "=m"(*where) : "r"(what) : "memory"); }
static int count(unsigned n) {
    int turns = 0;
    __asm__("1:\n\tincl %0\n\tshrl $1, %1\n\tjnz 1b" : "+r"(turns), "+r"(n) : : "cc");
    return turns;
}
static int sign(int x) {
    __asm__ goto("testl %0, %0\n\tjs %l[negative]" : : "r"(x) : "cc" : negative);
    return 1;
negative:
    return -1;
}
static void divide(unsigned a, unsigned b, unsigned *q, unsigned *r) { __asm__("divl %4" : "=a"(*q), "=d"(*r) : "a"(a), "d"(0), "r"(b) : "cc"); }
static long calls(long (*f)(long), long x) {
    long r;
    __asm__ volatile("movq %%rsp, %%r14\n\tsubq $256, %%rsp\n\tandq $-16, %%rsp\n\tcall *%2\n\tmovq %%r14, %%rsp" : "=a"(r), "+D"(x) : "r"(f)
                     : "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "r14", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3",
                       "xmm4", "xmm5", "xmm6", "xmm7");
    return r;
}

int main(void) {
    for (int i = 1; i < 5; i++) {
        int cell = 0;
        unsigned q, r;
        store(&cell, i * 11);
        divide(1000u, (unsigned)i * 7, &q, &r);
        printf("%ld %lx %ld %d %d %d %u %u %ld\n", add(i, 40), rotate(0x8000000000000001u, (unsigned char)i), clobbers(i), cell,
               count((unsigned)i * 100), sign(i - 3), q, r, calls(host_called, i));
    }
    printf("%d\n", seen);
    return 0;
}
