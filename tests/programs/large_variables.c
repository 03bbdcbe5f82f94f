// Variables larger than all that a cache has for data: zero at first, initialised in part, aligned, pointed into by
// others, of a common name, in a function.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define MIB (1ul << 20)

static char big[300 * MIB];
double shared[20 * MIB];
_Alignas(65536) unsigned char aligned[2 * MIB];
static int some[MIB] = {1, 2, 3};
static char *const middle = big + 150 * MIB;
char *ends[] = {big, big + sizeof big - 1, (char *)shared, (char *)&shared[20 * MIB - 1]};
static const char nothing[3 * MIB];
int common[4 * MIB];

static void fill(char *at, size_t length, int with) {
    for (size_t i = 0; i < length; i += 1 * MIB) at[i] = (char)(with + (int)(i / MIB));
}

static unsigned long counter(unsigned long n) {
    static unsigned long counts[MIB];
    return ++counts[n % MIB];
}

static long sum(const char *at, size_t length) {
    long sum = 0;
    for (size_t i = 0; i < length; i += MIB) sum += at[i];
    return sum;
}

int main(void) {
    printf("%d %d\n", *ends[1], middle == &big[150 * MIB]);
    fill(big, sizeof big, 1);
    *ends[1] = 77;
    *middle = 55;
    printf("%ld %d %d\n", sum(big, sizeof big), big[sizeof big - 1], big[150 * MIB]);
    for (size_t i = 0; i < 20 * MIB; i += 4096) shared[i] = (double)i / 2;
    double total = 0;
    for (size_t i = 0; i < 20 * MIB; i += 4096) total += shared[i];
    printf("%.1f %d\n", total, ends[3] == (char *)(shared + 20 * MIB) - sizeof(double));
    printf("%d\n", (int)((uintptr_t)aligned % 65536));
    memset(aligned, 3, 70000);
    printf("%d %d\n", aligned[69999], aligned[70000]);
    printf("%d %d %d\n", some[0] + some[1] + some[2], some[3], some[MIB - 1]);
    printf("%d\n", nothing[2 * MIB]);
    common[3 * MIB] = 9;
    printf("%d %d\n", common[3 * MIB], common[0]);
    for (int i = 0; i < 10; i++) counter(i & 3);
    printf("%lu %lu\n", counter(0), counter(3));
    return 0;
}
