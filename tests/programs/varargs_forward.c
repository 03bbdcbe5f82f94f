/* Variadic functions of the program: handed on to vprintf and vsnprintf, copied, and taken one by one. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int log_count;
static int log_to(FILE *out, const char *prefix, const char *how, va_list args) {
    log_count++;
    return fprintf(out, "[%s %d] ", prefix, log_count) + vfprintf(out, how, args);
}
static int note(const char *how, ...) {
    va_list args;
    va_start(args, how);
    int n = log_to(stdout, "note", how, args);
    va_end(args);
    return n;
}
static char *format(const char *how, ...) {
    va_list args, again;
    va_start(args, how);
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, how, args) + 1;
    char *text = malloc((size_t)size);
    vsnprintf(text, (size_t)size, how, again);
    va_end(again);
    va_end(args);
    return text;
}
static char *join(const char *first, ...) {
    static char out[128];
    strcpy(out, first);
    va_list args;
    va_start(args, first);
    for (const char *next; (next = va_arg(args, const char *));) strcat(strcat(out, "+"), next);
    va_end(args);
    return out;
}
static int scan(const char *text, const char *how, ...) {
    va_list args;
    va_start(args, how);
    int n = vsscanf(text, how, args);
    va_end(args);
    return n;
}

int main(void) {
    int n = note("%s %d %.2f %c\n", "text", -5, 2.5, 'c');
    n += note("%d %d %d %d %d %d %d %d %g %g\n", 1, 2, 3, 4, 5, 6, 7, 8, 9.5, 10.25);
    char *text = format("%08.3f|%-6s|%lld|%Lg", 3.14159, "left", 1LL << 40, 1.5L);
    printf("%s %d\n%s\n", text, n, join("a", "bc", "def", "ghij", "k", "l", "m", "n", (char *)0));
    free(text);
    int a; double b; char c[8];
    printf("%d ", scan("12 0.5 abc", "%d %lf %7s", &a, &b, c));
    printf("%d %g %s\n", a, b, c);
    return 0;
}
