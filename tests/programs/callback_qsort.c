/* qsort's callbacks: a sort within a comparison, qsort_r with an argument, and orders chosen at run time. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int order(const void *, const void *);
static int inner_calls;
static int up(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }
static int down(const void *a, const void *b) { return up(b, a); }
static int letters(const void *a, const void *b) { inner_calls++; return *(const char *)a - *(const char *)b; }
static int anagram(const void *a, const void *b) {
    char x[16], y[16];
    strcpy(x, *(char *const *)a);
    strcpy(y, *(char *const *)b);
    qsort(x, strlen(x), 1, letters);
    qsort(y, strlen(y), 1, letters);
    int by = strcmp(x, y);
    return by ? by : strcmp(*(char *const *)a, *(char *const *)b);
}
static int modulo(const void *a, const void *b, void *by) {
    int m = *(int *)by, x = *(const int *)a % m, y = *(const int *)b % m;
    return x != y ? x - y : up(a, b);
}
static order *const orders[] = {up, down};

int main(void) {
    const char *words[] = {"listen", "enlist", "cat", "act", "silent", "tac", "dog", "god", "tinsel"};
    qsort(words, 9, sizeof *words, anagram);
    for (int i = 0; i < 9; i++) printf("%s ", words[i]);
    printf("%d\n", inner_calls > 100);
    int n[40];
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < 40; i++) n[i] = (i * 37 + round) % 101;
        if (round < 2) qsort(n, 40, sizeof *n, orders[round]);
        else { int by = round + 1; qsort_r(n, 40, sizeof *n, modulo, &by); }
        for (int i = 0; i < 40; i += 5) printf("%d ", n[i]);
        printf("\n");
    }
    return 0;
}
