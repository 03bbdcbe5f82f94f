/* alloca and arrays of variable length: in loops, two-dimensional, as parameters, freed at the end of their block. */
#include <alloca.h>
#include <stdio.h>
#include <string.h>

static double trace(int n, double m[n][n]) { double t = 0; for (int i = 0; i < n; i++) t += m[i][i]; return t; }
static double fill(int n) {
    double m[n][n];
    for (int i = 0; i < n; i++) for (int j = 0; j < n; j++) m[i][j] = i * j + 0.5;
    return trace(n, m);
}
static int reversed(const char *text) {
    size_t n = strlen(text);
    char *copy = alloca(n + 1);
    for (size_t i = 0; i < n; i++) copy[i] = text[n - 1 - i];
    copy[n] = 0;
    return printf("%s ", copy);
}
static long blocks(int rounds) {
    long sum = 0;
    for (int i = 1; i <= rounds; i++) {
        int block[i * 100];
        for (int k = 0; k < i * 100; k++) block[k] = k ^ i;
        sum += block[i * 100 - 1] + (long)sizeof block;
    }
    return sum;
}
static int deep(int n) { char room[n * 64 + 1]; memset(room, n, sizeof room); return n ? deep(n - 1) + room[n * 64] : 0; }

int main(void) {
    for (int n = 1; n < 40; n += 13) printf("%g %ld ", fill(n), blocks(n));
    printf("%d\n", reversed("desserts") + reversed("stressed") + deep(60));
    return 0;
}
