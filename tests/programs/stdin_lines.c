/* Reading standard input in all the ways: fgets, scanf, getline, getchar, ungetc, fread, to the end. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int numbers(void) {
    int n, sum = 0;
    while (scanf("%d", &n) == 1) sum += n;
    return sum;
}
static size_t line(void) {
    char *text = NULL;
    size_t room = 0;
    ssize_t n = getline(&text, &room, stdin);
    if (n > 0) printf("<%.*s>", (int)n - 1, text);
    free(text);
    return n < 0 ? 0 : (size_t)n;
}

int main(void) {
    char text[32];
    if (fgets(text, sizeof text, stdin)) printf("%s", text);
    printf("%d\n", numbers());
    int c = getchar();
    ungetc('U', stdin);
    printf("%c%zu\n", c, line());
    printf(" %zu\n", line());
    size_t rest = fread(text, 1, sizeof text, stdin);
    printf("%zu %.*s %d %d\n", rest, (int)rest, text, feof(stdin) != 0, getchar());
    return 0;
}
