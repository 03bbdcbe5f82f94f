/* libc ends the program by itself: exit handlers run, also those that call what was never called before. */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

static int step;
static int late(int x) { return x * 3 + 1; }
static void plain(void) { printf("%d plain %d\n", ++step, late(step)); }
static void with_code(int code, void *data) { printf("%d code %d %s\n", ++step, code, (const char *)data); }
static void exits(void) { printf("%d exits\n", ++step); exit(7); }
static void deep(int n) { if (n) deep(n - 1); else { fclose(stderr); errx(3, "the end"); } }

int main(int argc, char **argv) {
    (void)argv;
    atexit(plain);
    on_exit(with_code, "data");
    if (argc > 1) atexit(exits);
    printf("no newline yet");
    deep(4);
    return 0;
}
