/* Coroutines on stacks of their own by makecontext and swapcontext. */
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

static ucontext_t caller, workers[3];
static int current, yielded;
static char *stacks[3];
static void yield(int value) { yielded = value; swapcontext(&workers[current], &caller); }
static int deep(int n) { if (n == 0) { yield(-1); return 1; } return deep(n - 1) + 1; }
static void squares(int from, int step) { for (int i = from; i < 100; i += step) yield(i * i); yield(-2); }
static void recursive(void) { for (int i = 1; i < 4; i++) yield(deep(i * 5)); }

int main(void) {
    for (int i = 0; i < 3; i++) {
        getcontext(&workers[i]);
        stacks[i] = malloc(256 << 10);
        workers[i].uc_stack.ss_sp = stacks[i];
        workers[i].uc_stack.ss_size = 256 << 10;
        workers[i].uc_link = &caller;
        if (i < 2) makecontext(&workers[i], (void (*)(void))squares, 2, i + 1, 7 + i * 20);
        else makecontext(&workers[i], recursive, 0);
    }
    for (int turn = 0; turn < 15; turn++) {
        current = turn % 3;
        swapcontext(&caller, &workers[current]);
        printf("%d ", yielded);
    }
    printf("\n");
    for (int i = 0; i < 3; i++) free(stacks[i]);
    return 0;
}
