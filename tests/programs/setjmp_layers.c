/* setjmp and longjmp: through layers, out of a callback of libc's, in a loop, and sigsetjmp. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

static jmp_buf top, middle;
static sigjmp_buf with_signals;
static int compared;
static void throw_to(int which, int code) { longjmp(which ? top : middle, code); }
static void layer(int depth, int which, int code) { if (depth) layer(depth - 1, which, code); else throw_to(which, code); }
static int stop_early(const void *a, const void *b) {
    if (++compared == 7) throw_to(1, 70);
    return *(const int *)a - *(const int *)b;
}
static int guarded(int which) {
    volatile int before = which * 10;
    int code = setjmp(middle);
    if (!code) layer(5, which, 3);
    return before + code;
}

int main(void) {
    volatile int rounds = 0;
    int code = setjmp(top);
    printf("%d %d\n", rounds, code);
    switch (rounds++) {
    case 0: printf("guarded %d\n", guarded(0)); throw_to(1, 11);
    case 1: printf("guarded %d\n", guarded(1)); break;
    case 2: { int n[] = {5, 3, 9, 1, 7, 2, 8}; qsort(n, 7, sizeof *n, stop_early); break; }
    case 3: layer(100, 1, 0);
    }
    volatile int left = 5;
    if (sigsetjmp(with_signals, 1) < 5 && left--) siglongjmp(with_signals, 5 - left);
    printf("%d %d\n", left, compared);
    return 0;
}
