/* Big static arrays: zeroed, initialised, constant ones read by many, and walked over by pointers. */
#include <stdio.h>
#include <string.h>

static int zeroed[1 << 18];
static double grid[100][100];
static const unsigned short squares[256] = {
#define S(n) (n) * (n), ((n) + 1) * ((n) + 1), ((n) + 2) * ((n) + 2), ((n) + 3) * ((n) + 3)
    S(0), S(4), S(8), S(12), S(16), S(20), S(24), S(28), S(32), S(36), S(40), S(44), S(48), S(52), S(56), S(60)};
static const char text[][8] = {"alpha", "beta", "gamma", "delta", "epsilon"};
static unsigned crc_table[256];
static char buffer[70000] = "start";

static void make_crc(void) {
    for (unsigned i = 0; i < 256; i++) {
        unsigned c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
        crc_table[i] = c;
    }
}
static unsigned crc(const void *data, size_t size) {
    const unsigned char *p = data;
    unsigned c = ~0u;
    while (size--) c = crc_table[(c ^ *p++) & 255] ^ c >> 8;
    return ~c;
}
static int square(int i) { return squares[i & 63]; }
static int squares_sum(void) { int sum = 0; for (const unsigned short *p = squares; p != squares + 64; p++) sum += *p; return sum; }
static int length(int i) { return (int)strlen(text[i % 5]); }
static int letter(int i) { return text[i % 5][i % 4]; }
static void fill(int step) { for (int i = 0; i < 1 << 18; i += step) zeroed[i] += i ^ step; }
static double relax(void) {
    for (int i = 1; i < 99; i++) for (int j = 1; j < 99; j++) grid[i][j] = (grid[i - 1][j] + grid[i][j - 1] + i * j) / 3;
    return grid[98][98];
}

int main(void) {
    make_crc();
    for (int step = 1; step < 2000; step *= 7) fill(step);
    memset(buffer + 100, 'x', 60000);
    printf("%u %u %s\n", crc(zeroed, sizeof zeroed), crc(buffer, sizeof buffer), buffer);
    for (int i = 0; i < 8; i++) printf("%d %d %c ", square(i * 9), length(i), letter(i));
    printf("%d %g\n", squares_sum(), relax());
    return 0;
}
