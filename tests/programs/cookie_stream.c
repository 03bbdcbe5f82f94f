/* Streams whose writes and reads are functions of the program; the last write comes when exit flushes. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct counter { int writes; unsigned sum; const char *name; };
static ssize_t write_counted(void *cookie, const char *bytes, size_t n) {
    struct counter *c = cookie;
    c->writes++;
    for (size_t i = 0; i < n; i++) c->sum = c->sum * 31 + (unsigned char)bytes[i];
    dprintf(1, "%s %zu\n", c->name, n);
    return (ssize_t)n;
}
static ssize_t read_letters(void *cookie, char *bytes, size_t n) {
    int *left = cookie;
    size_t i = 0;
    for (; i < n && *left; i++) bytes[i] = (char)('a' + (*left)-- % 26);
    return (ssize_t)i;
}
static int close_it(void *cookie) { dprintf(1, "close %s\n", ((struct counter *)cookie)->name); return 0; }

int main(void) {
    static struct counter first = {0, 0, "first"}, second = {0, 0, "second"};
    cookie_io_functions_t out = {.write = write_counted, .close = close_it};
    FILE *f = fopencookie(&first, "w", out), *g = fopencookie(&second, "w", out);
    for (int i = 0; i < 2000; i++) fprintf(f, "line %d\n", i);
    fclose(f);
    dprintf(1, "%u\n", first.sum);
    int left = 30;
    FILE *in = fopencookie(&left, "r", (cookie_io_functions_t){.read = read_letters});
    char text[64];
    if (fgets(text, sizeof text, in)) dprintf(1, "%s\n", text);
    fclose(in);
    fprintf(g, "flushed at the end");
    return 0;
}
