/* A call of a null pointer from deep inside ends the program by SIGSEGV; what was flushed stays. */
#include <stdio.h>

static void (*volatile hook)(int);
static void show(int n) { printf("%d\n", n); fflush(stdout); }
static int deep(int n) { if (n) return deep(n - 1) + 1; hook(n); return 0; }

int main(void) {
    hook = show;
    printf("%d\n", deep(3));
    fflush(stdout);
    hook = NULL;
    printf("%d\n", deep(4));
    return 0;
}
