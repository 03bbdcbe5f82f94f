/* Recursion: of one, of two, deep, wide, by tail. */
#include <stdio.h>

static int ackermann(int m, int n) { return m == 0 ? n + 1 : n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1)); }
static int is_odd(int n);
static int is_even(int n) { return n == 0 ? 1 : is_odd(n - 1); }
static int is_odd(int n) { return n == 0 ? 0 : is_even(n - 1); }
static int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }
static long depth(long n) { return n == 0 ? 0 : 1 + depth(n - 1); }
static int hanoi(int n, int from, int to, int by) { return n == 0 ? 0 : hanoi(n - 1, from, by, to) + 1 + hanoi(n - 1, by, to, from); }
static int queens(int n, int row, unsigned columns, unsigned left, unsigned right) {
    if (row == n) return 1;
    int found = 0;
    for (int i = 0; i < n; i++) {
        unsigned bit = 1u << i;
        if ((columns | left | right) & bit) continue;
        found += queens(n, row + 1, columns | bit, (left | bit) << 1, (right | bit) >> 1);
    }
    return found;
}

int main(void) {
    printf("%d %d %d\n", ackermann(2, 5), is_even(40), is_odd(41));
    printf("%d %ld %d %d\n", fibonacci(15), depth(2000), hanoi(8, 0, 1, 2), queens(6, 0, 0, 0, 0));
    return 0;
}
