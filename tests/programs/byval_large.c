/* Large structs by value: passed in memory, returned through a hidden pointer, both ways by function pointer. */
#include <stdio.h>
#include <string.h>

struct matrix { double v[8][8]; };
struct page { char text[5000]; int length; };
static struct matrix identity(void) { struct matrix m = {0}; for (int i = 0; i < 8; i++) m.v[i][i] = 1; return m; }
static struct matrix times(struct matrix a, struct matrix b) {
    struct matrix r = {0};
    for (int i = 0; i < 8; i++) for (int j = 0; j < 8; j++) for (int k = 0; k < 8; k++) r.v[i][j] += a.v[i][k] * b.v[k][j];
    return r;
}
static struct matrix power(struct matrix m, int n) {
    return n == 0 ? identity() : n & 1 ? times(m, power(m, n - 1)) : power(times(m, m), n / 2);
}
static double trace(struct matrix m) { double t = 0; for (int i = 0; i < 8; i++) t += m.v[i][i]; m.v[0][0] = -1; return t; }
static struct page append(struct page p, const char *text) {
    strcpy(p.text + p.length, text);
    p.length += (int)strlen(text);
    return p;
}
static struct page twice(struct page (*f)(struct page, const char *), struct page p, const char *text) { return f(f(p, text), text); }

int main(void) {
    struct matrix m = identity();
    m.v[0][7] = 0.5; m.v[7][0] = 2; m.v[3][4] = 1;
    for (int n = 0; n < 10; n += 3) { struct matrix p = power(m, n); printf("%g %g %g\n", trace(p), p.v[0][7], trace(p)); }
    struct page p = {"", 0};
    for (int i = 0; i < 5; i++) p = twice(append, p, i & 1 ? "odd " : "even ");
    printf("%s%d\n", p.text, p.length);
    return 0;
}
