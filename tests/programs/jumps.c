/* setjmp and longjmp: out of deep recursion, out of a callback that libc called, again and again. */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>

static jmp_buf top, inner;
static volatile int steps;

static void dive(int depth) {
    steps++;
    if (depth == 0) longjmp(top, steps);
    dive(depth - 1);
    steps = -1000;
}

static int compare(const void *a, const void *b) {
    const int *x = a, *y = b;
    if (*x == 13 || *y == 13) longjmp(inner, 13);
    return (*x > *y) - (*x < *y);
}

static int sorted(int *numbers, size_t count) {
    int code = _setjmp(inner);
    if (code) return code;
    qsort(numbers, count, sizeof *numbers, compare);
    return 0;
}

static int try(int depth) {
    volatile int before = depth * 2;
    int code = setjmp(top);
    if (code == 0) dive(depth);
    return before + code;
}

static int loop(void) {
    volatile int round = 0;
    int code = setjmp(top);
    if (code >= 5) return round;
    round++;
    longjmp(top, code + 1);
}

int main(void) {
    for (int i = 0; i < 10; i++) {
        steps = 0;
        printf("%d ", try(i));
    }
    int good[] = {4, 2, 9, 1}, bad[] = {4, 13, 9, 1};
    printf("\n%d %d %d\n", sorted(good, 4), sorted(bad, 4), loop());
    for (int i = 0; i < 4; i++) printf("%d ", good[i]);
    sigjmp_buf saved;
    if (sigsetjmp(saved, 1) == 0) siglongjmp(saved, 3);
    printf("end\n");
    return 0;
}
