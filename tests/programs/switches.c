/* Switches that become jump tables, lookup tables, bit tests and trees. */
#include <stdio.h>

static int dense(int x) {
    switch (x) {
    case 0: return printf("zero ");
    case 1: return printf("one ");
    case 2: return printf("two ");
    case 3: return printf("three ");
    case 4: return printf("four ");
    case 5: return printf("five ");
    case 6: return printf("six ");
    default: return printf("? ");
    }
}
static int lookup(int x) {
    switch (x) { case 0: return 31; case 1: return 28; case 2: return 31; case 3: return 30; case 4: return 31; case 5: return 30; case 6: return 99; case 7: return -4; default: return 0; }
}
static const char *words(int x) {
    switch (x) { case 0: return "nil"; case 1: return "uno"; case 2: return "due"; case 3: return "tre"; case 4: return "quattro"; case 5: return "cinque"; default: return "molti"; }
}
static int sparse(long x) {
    switch (x) { case -1000000: return 1; case 17: return 2; case 99999999999: return 3; case 0x7fffffff: return 4; default: return 0; }
}
static int set(char c) {
    switch (c) { case 'a': case 'e': case 'i': case 'o': case 'u': return 1; case '0' ... '9': return 2; default: return 0; }
}
static int through(int x) { int r = 0; switch (x & 7) { case 7: r += 64; case 5: r += 32; case 3: r += 16; break; case 1: r += 8; default: r -= 1; } return r; }
static double reals(int x) { switch (x) { case 1: return 1.5; case 2: return 2.25; case 3: return -3; case 4: return 1e9; default: return 0; } }

int main(void) {
    int sum = 0;
    for (int i = -1; i < 9; i++) {
        sum += dense(i);
        printf("%d %s %d %g\n", lookup(i), words(i), through(i), reals(i));
    }
    const char *text = "switch on 42 characters";
    for (const char *c = text; *c; c++) sum = sum * 3 + set(*c);
    printf("%d %d%d%d%d%d\n", sum, sparse(-1000000), sparse(17), sparse(99999999999), sparse(0x7fffffff), sparse(5));
    return 0;
}
