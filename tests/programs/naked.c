/* Naked functions: no prologue, all their code in assembly; called, called by pointer, and tail calling. */
#include <stdio.h>

__attribute__((naked)) static long sum(long a, long b) { __asm__("leaq (%rdi,%rsi), %rax\n\tret"); }
__attribute__((naked)) static unsigned long depth(void) { __asm__("movq %rsp, %rax\n\tret"); }
__attribute__((naked)) static long through(long (*f)(long, long), long a, long b) {
    __asm__("movq %rdi, %rax\n\tmovq %rsi, %rdi\n\tmovq %rdx, %rsi\n\tjmp *%rax");
}
static long product(long a, long b) { return a * b; }
static long (*const table[])(long, long) = {sum, product};

int main(void) {
    for (int i = 0; i < 6; i++) printf("%ld %ld\n", table[i % 2](i, 10), through(table[(i + 1) % 2], i, 5));
    printf("%d %d\n", table[0] == sum, depth() % 8 == 0);
    return 0;
}
