/* The ways a program ends. The first argument chooses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int state = 1;
static void first(void) { printf("first %d\n", state++); }
static void second(void) { printf("second %d\n", state++); }
static void late(void) { printf("late %d\n", state++); }
static void registers(void) { printf("registers %d\n", state++); atexit(late); }
static void exits(void) { printf("exits %d\n", state++); exit(9); }
static void status(int code, void *data) { printf("status %d %s\n", code, (const char *)data); }
static void quick(void) { write(1, "quick\n", 6); }
static void deep(int n) { if (n) deep(n - 1); exit(40 + state); }

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "return";
    atexit(first);
    atexit(second);
    on_exit(status, "data");
    printf("%s\n", how);
    if (!strcmp(how, "exit")) exit(3);
    if (!strcmp(how, "deep")) deep(20);
    if (!strcmp(how, "large")) exit(259);
    if (!strcmp(how, "register")) { atexit(registers); return 4; }
    if (!strcmp(how, "again")) { atexit(exits); exit(8); }
    if (!strcmp(how, "_exit")) { fflush(stdout); _exit(6); }
    if (!strcmp(how, "quick")) { at_quick_exit(quick); fflush(stdout); quick_exit(7); }
    if (!strcmp(how, "abort")) { fflush(stdout); abort(); }
    if (!strcmp(how, "segv")) { fflush(stdout); *(volatile int *)(long)(argc - 2) = 1; }
    printf("no newline at the end");
    return 2;
}
