/* Functions for a richer processor than the rest of the program, chosen at run time; both give the same. */
#include <stdio.h>

typedef int i8 __attribute__((vector_size(32)));
static int data[64];
__attribute__((target("avx2"))) static int fast(const int *p, int n) {
    i8 sum = {0};
    for (int i = 0; i + 8 <= n; i += 8) {
        i8 v;
        __builtin_memcpy(&v, p + i, sizeof v);
        sum += v * v;
    }
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}
static int plain(const int *p, int n) {
    int sum = 0;
    for (int i = 0; i < n; i++) sum += p[i] * p[i];
    return sum;
}

int main(void) {
    __builtin_cpu_init();
    int (*chosen)(const int *, int) = __builtin_cpu_supports("avx2") ? fast : plain;
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 64; i++) data[i] = (i * 7 + round) % 23 - 11;
        printf("%d %d\n", chosen(data, 64), plain(data, 64));
    }
    return 0;
}
