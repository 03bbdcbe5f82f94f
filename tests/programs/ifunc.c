/* Indirect functions: a resolver chooses the body once, before anything calls it. */
#include <stdio.h>

static int resolved;
typedef int binary(int, int);
static int sum(int a, int b) { return a + b; }
static int product(int a, int b) { return a * b; }
static binary *choose(void) { resolved++; return resolved > 100 ? sum : product; }
int operate(int, int) __attribute__((ifunc("choose")));
static binary *choose_sum(void) { return sum; }
static int quiet(int, int) __attribute__((ifunc("choose_sum")));
static int fold(binary *f, int n) { int r = 1; for (int i = 1; i <= n; i++) r = f(r, i); return r; }

int main(void) {
    printf("%d %d\n", operate(6, 7), quiet(6, 7));
    printf("%d %d\n", fold(operate, 6), fold(quiet, 6));
    binary *p = operate;
    printf("%d %d\n", p == operate, resolved >= 1);
    return 0;
}
