/* Constructors and destructors of C, by priority, before main and after its handlers. */
#include <stdio.h>
#include <stdlib.h>

static int order;
static char *kept;
static void say(const char *what) { printf("%d %s\n", ++order, what); }
__attribute__((constructor)) static void plain(void) { say("plain"); }
__attribute__((constructor(300))) static void third(void) { say("third"); }
__attribute__((constructor(200))) static void second(void) { say("second"); kept = malloc(10); snprintf(kept, 10, "kept"); }
__attribute__((constructor(101))) static void first(void) { say("first"); }
__attribute__((destructor)) static void end_plain(void) { say("end plain"); }
__attribute__((destructor(101))) static void end_last(void) { say("end last"); free(kept); }
__attribute__((destructor(300))) static void end_third(void) { say("end third"); printf("%s\n", kept); }
__attribute__((constructor(150), destructor(150))) static void both(void) { say("both"); }
static void handler(void) { say("handler"); }

int main(void) {
    atexit(handler);
    say(kept);
    return order;
}
