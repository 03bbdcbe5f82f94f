/* The program defines what the optimiser knows as libc's: strlen, puts, memcpy, memset, abs. Its own are called. */
#include <stdarg.h>
#include <stddef.h>
#include <unistd.h>

static int copies, lengths, puts_calls;
size_t strlen(const char *s) { lengths++; const char *p = s; while (*p) { p++; __asm__ volatile(""); } return (size_t)(p - s); }
void *memcpy(void *restrict to, const void *restrict from, size_t n) {
    copies++;
    char *t = to;
    const char *f = from;
    while (n--) { *t++ = *f++; __asm__ volatile(""); }
    return to;
}
int puts(const char *s) { puts_calls++; write(1, "<", 1); write(1, s, strlen(s)); return (int)write(1, ">\n", 2); }
int abs(int x) { return x < 0 ? -x + 1000 : x + 1000; }
int isdigit(int c) { return c == 'x'; }
int printf(const char *how, ...) {
    va_list args;
    va_start(args, how);
    char out[128];
    size_t n = 0;
    for (; *how; how++) {
        if (*how != '%') { out[n++] = *how; continue; }
        how++;
        if (*how == 's') { const char *s = va_arg(args, const char *); size_t k = strlen(s); memcpy(out + n, s, k); n += k; }
        else { char digits[12]; int k = 0, v = va_arg(args, int); do digits[k++] = (char)('0' + v % 10); while (v /= 10); while (k) out[n++] = digits[--k]; }
    }
    va_end(args);
    return (int)write(1, out, n);
}
static int (*volatile by_pointer)(const char *) = puts;

int main(void) {
    printf("hello\n");
    printf("%s\n", "string");
    puts("direct");
    by_pointer("by pointer");
    char copy[300], from[300];
    volatile size_t n = 300;
    for (size_t i = 0; i < n; i++) from[i] = (char)i;
    memcpy(copy, from, n);
    volatile int minus = -5;
    printf("%d %d %d\n", abs(minus), isdigit('x'), isdigit('5'));
    printf("%d %d %d %d\n", copies > 0, lengths > 2, puts_calls >= 2, (unsigned char)copy[200]);
    return 0;
}
