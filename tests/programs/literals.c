/* String literals and constants whose address leaves the function: they must outlive its code, and stay equal. */
#include <stdio.h>
#include <string.h>

struct node { const char *text; const int *numbers; };
static struct node kept[8];

static const char *day(int i) {
    static const char *const names[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
    return names[i % 7];
}
static const char *parity(int i) { return i % 2 ? "odd" : "even"; }
static const int *primes(void) { static const int list[] = {2, 3, 5, 7, 11, 13}; return list; }
static const char *choose(int i) {
    switch (i) {
    case 0: return "zero";
    case 1: return "one";
    case 2: return "two";
    case 3: return "three";
    default: return "many";
    }
}
static void store(int i) { kept[i].text = choose(i); kept[i].numbers = primes(); }
static int weight(int i) { static const int table[] = {3, 1, 4, 1, 5, 9, 2, 6}; return table[i & 7]; }
static char *editable(void) { static char buffer[] = "editable"; buffer[0]++; return buffer; }
static void fill(char *out) { char local[] = "copied from a constant"; memcpy(out, local, sizeof local); }
#define F(n) static int f##n(int x) { return x * n + weight(n); }
F(1) F(2) F(3) F(4) F(5) F(6) F(7) F(8) F(9) F(10) F(11) F(12) F(13) F(14) F(15) F(16)
static int (*const many[])(int) = {f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, f11, f12, f13, f14, f15, f16};

int main(void) {
    const char *first[7];
    for (int i = 0; i < 7; i++) first[i] = day(i);
    for (int i = 0; i < 8; i++) store(i);
    int total = 0, equal = 0;
    for (int round = 0; round < 4; round++)
        for (int i = 0; i < 16; i++) total += many[i](round);
    for (int i = 0; i < 14; i++) equal += first[i % 7] == day(i);
    equal += kept[5].text == kept[6].text;
    equal += kept[0].numbers == primes();
    for (int i = 0; i < 8; i++) printf("%s %d %s %s; ", kept[i].text, kept[i].numbers[i % 6], first[i % 7], parity(i));
    char text[64];
    fill(text);
    printf("\n%d %d %s %s", total, equal, text, editable());
    printf(" %s\n", editable());
    return 0;
}
