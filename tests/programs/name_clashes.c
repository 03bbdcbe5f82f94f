/* Locals of one name in many functions, names that look like LLVM's suffixes, and names that libc has too. */
#include <stdio.h>

#define F(n) static int f##n(void) { static int count = n; static const char text[] = "text " #n; count += text[5] - '0'; return count; }
F(1) F(2) F(3) F(4)
static int count = 100;
int count_1(void) __asm__("count.1");
int count_1(void) { return ++count; }
static int index(int x) { return x * 2; }
static int read(int x) { return x * 3; }
int link(int x) { return index(x) + read(x); }
static int y0 = 5, environ = 6;
int dollar$name(int x) { return x - 1; }
int odd(void) __asm__("a name with spaces, and \303\244");
int odd(void) { static int count; return ++count; }
static int (*const table[])(void) = {f1, f2, f3, f4, count_1, odd};

int main(void) {
    for (int round = 0; round < 3; round++) for (int i = 0; i < 6; i++) printf("%d ", table[i]());
    printf("%d %d %d %d\n", link(7), y0 + environ, dollar$name(4), count);
    return 0;
}
