/* exit from inside a callback of qsort inside a handler that jumps; buffered output still appears. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

static jmp_buf back;
static int compared;
static int ends(const void *a, const void *b) {
    if (++compared == 3) exit(21);
    return *(const int *)a - *(const int *)b;
}
static void last(void) { printf("last without newline"); }
static void sorts(void) {
    if (setjmp(back) == 0) longjmp(back, 1);
    printf("sorting\n");
    int n[] = {4, 2, 3, 1};
    qsort(n, 4, sizeof *n, ends);
    printf("not reached\n");
}

int main(void) {
    atexit(last);
    atexit(sorts);
    int n[] = {2, 1};
    qsort(n, 2, sizeof *n, ends);
    printf("%d %d\n", n[0], compared);
    return 1;
}
