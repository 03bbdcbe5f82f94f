/* Calls that must be tail calls: mutual recursion and a dispatch by table, in constant stack. */
#include <stdio.h>

#define MUSTTAIL __attribute__((musttail))
static char *top, *bottom;
static void look(char *at) { if (!top || at > top) top = at; if (!bottom || at < bottom) bottom = at; }
static int odd(unsigned n);
static void here(void) { char local; look(&local); }
static int even(unsigned n) { if (n == 0) return 1; here(); MUSTTAIL return odd(n - 1); }
static int odd(unsigned n) { if (n == 0) return 0; MUSTTAIL return even(n - 1); }

typedef long step(const char *code, long value, long left);
static step add, twice, again, stop;
static step *const table[4] = {add, twice, again, stop};
#define NEXT MUSTTAIL return table[*code & 3](code + 1, value, left)
static long add(const char *code, long value, long left) { value += 3; NEXT; }
static long twice(const char *code, long value, long left) { value = value * 2 % 1000003; NEXT; }
static long again(const char *code, long value, long left) {
    if (left--) code -= 3;
    NEXT;
}
static long stop(const char *code, long value, long left) { return value + (code != 0) + left; }

int main(void) {
    printf("%d %d\n", even(200), odd(200));
    printf("%ld\n", add("\1\0\2\3", 1, 0));
    printf("%ld\n", twice("\0\1\1\2\3", 1, 100));
    printf("%d\n", top - bottom < 1024);
    return 0;
}
