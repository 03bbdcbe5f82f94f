/* __builtin_trap and unreachable code made to trap end by SIGILL. */
#include <stdio.h>

static int check(int i) {
    if (i > 4) __builtin_trap();
    return i * i;
}

int main(void) {
    for (int i = 0; i < 10; i++) {
        printf("%d ", check(i));
        fflush(stdout);
    }
    return 0;
}
