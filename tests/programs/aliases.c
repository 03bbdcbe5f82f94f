/* Aliases: of functions and data, weak ones, of an alias, through pointers, and equal to what they name. */
#include <stdio.h>

int original(int x) { return x * 3; }
int second(int) __attribute__((alias("original")));
int third(int) __attribute__((alias("second")));
int overridable(int) __attribute__((weak, alias("original")));
static int local(int x) { return x - 1; }
extern int visible(int) __attribute__((alias("local")));
int numbers[4] = {1, 2, 3, 4};
extern int same[4] __attribute__((alias("numbers")));
static int hidden_count = 5;
extern int count __attribute__((alias("hidden_count")));
static int (*table[])(int) = {original, second, third, overridable, local, visible};

static int recursive(int n);
extern int recursive_name(int n) __attribute__((alias("recursive")));
static int recursive(int n) { return n ? recursive_name(n - 1) + n : 0; }

int main(void) {
    for (int i = 0; i < 6; i++) printf("%d ", table[i](i + 10));
    same[2] = 30;
    count++;
    printf("%d %d %d\n", numbers[2], hidden_count, recursive(10));
    printf("%d %d %d\n", second == original, table[2] == table[3], visible == local);
    return same == numbers;
}
