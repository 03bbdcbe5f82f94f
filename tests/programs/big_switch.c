/* A switch of 300 cases with code of their own, one over characters, and one whose cases call each other. */
#include <stdio.h>

#define C(n) case n: value = value * 31 + n; if (value & 1) value += extra(n); break;
#define C10(n) C(n##0) C(n##1) C(n##2) C(n##3) C(n##4) C(n##5) C(n##6) C(n##7) C(n##8) C(n##9)
#define C100(n) C10(n##0) C10(n##1) C10(n##2) C10(n##3) C10(n##4) C10(n##5) C10(n##6) C10(n##7) C10(n##8) C10(n##9)
static unsigned calls;
static unsigned extra(unsigned n) { calls++; return n ^ 0x55; }
static unsigned step(unsigned which, unsigned value) {
    switch (which) {
        C100(1) C100(2) C100(3)
    default: value--;
    }
    return value;
}
static const char *kind(int c) {
    switch (c) {
    case '0' ... '9': return "digit";
    case 'a' ... 'z': case 'A' ... 'Z': return "letter";
    case ' ': case '\t': case '\n': return "space";
    case '+': case '-': case '*': case '/': return "operator";
    case 0: return "end";
    default: return "other";
    }
}
static unsigned hop(unsigned n, unsigned fuel) {
    if (!fuel) return n;
    switch (n % 6) {
    case 0: return hop(n / 2 + 1, fuel - 1);
    case 1: return hop(n * 3 + 1, fuel - 1) + 1;
    case 2: return hop(n ^ 0xff, fuel - 1);
    case 3: return hop(step(n % 400, n), fuel - 1);
    case 4: return hop(n + 77, fuel - 1);
    default: return hop(n - 1, fuel - 1);
    }
}

int main(void) {
    unsigned value = 1;
    for (unsigned i = 0; i < 60; i++) value = step(value % 420, value + i);
    printf("%u %u\n", value, calls);
    for (const char *t = "a1 +~"; ; t++) { printf("%s ", kind(*t)); if (!*t) break; }
    printf("%u\n", hop(12345, 60));
    return 0;
}
