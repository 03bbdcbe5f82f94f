/* A program that makes machine code itself, and has it call back into functions of the program. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

typedef long function(long);
static int calls;
static long triple(long x) { calls++; return 3 * x; }
static long minus(long x) { calls++; return x - 1; }

/* sub rsp, 8; add rdi, IMMEDIATE; movabs rax, TARGET; call rax; add rsp, 8; ret */
static unsigned char *emit(unsigned char *at, signed char add, function *target) {
    static const unsigned char head[] = {0x48, 0x83, 0xec, 8, 0x48, 0x83, 0xc7}, tail[] = {0xff, 0xd0, 0x48, 0x83, 0xc4, 8, 0xc3};
    memcpy(at, head, sizeof head);
    at[7] = (unsigned char)add;
    at[8] = 0x48;
    at[9] = 0xb8;
    memcpy(at + 10, &target, 8);
    memcpy(at + 18, tail, sizeof tail);
    return at + 32;
}

int main(void) {
    unsigned char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *at = page;
    if (page == MAP_FAILED) return 1;
    function *made[4], *targets[] = {triple, minus};
    for (int i = 0; i < 4; i++) {
        memcpy(&made[i], &at, sizeof at);
        at = emit(at, (signed char)(i * 5), i < 2 ? targets[i] : made[i - 2]);
    }
    mprotect(page, 4096, PROT_READ | PROT_EXEC);
    for (int i = 0; i < 8; i++) printf("%ld ", made[i % 4](i));
    printf("%d\n", calls);
    return munmap(page, 4096);
}
