/* Inline definitions that are copies of another's (available_externally), and C99's inline with its one body. */
#include <stdio.h>
#include <stdlib.h>

inline int twice(int x) { return 2 * x; }
extern int twice(int);
static inline int thrice(int x) { return twice(x) + x; }
__attribute__((gnu_inline)) extern inline int abs(int x) { return x < 0 ? -x : x; }
__attribute__((gnu_inline)) extern inline long labs(long x) { return x < 0 ? -x : x; }
static int (*const table[])(int) = {twice, thrice, abs};

int main(void) {
    for (int i = -3; i < 4; i++) printf("%d %d %ld\n", table[(i + 3) % 3](i), abs(i), labs(i * 3L));
    return table[2] == abs;
}
