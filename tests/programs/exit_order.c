/* Exit handlers: in reverse order, registered by each other, by on_exit with data, exit inside a handler. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>

static int step;
static void say(const char *what) { printf("%d %s\n", ++step, what); }
static void plain(void) { say("plain"); }
static void late(void) { say("late"); }
static void registers(void) { say("registers"); atexit(late); atexit(plain); }
static void with_data(int code, void *data) { printf("%d code %d %s\n", ++step, code, (const char *)data); }
static void exits(int code, void *data) { with_data(code, data); exit(code + 10); }
static void many(void) { say("many"); }

int main(void) {
    atexit(plain);
    on_exit(with_data, "outer");
    atexit(registers);
    on_exit(exits, "exits");
    on_exit(with_data, "inner");
    for (int i = 0; i < 40; i++) if (atexit(many)) return 99;
    return 5;
}
