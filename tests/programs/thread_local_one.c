/* Thread-locals in one thread: initialised, zeroed, aligned, static in a function, their addresses kept, errno's kin. */
#include <stdint.h>
#include <stdio.h>

static _Thread_local int counter = 40;
_Thread_local double zeroed[16];
static _Thread_local _Alignas(64) char line[64] = "aligned";
static _Thread_local struct { int a; const char *text; int (*f)(int); } mixed;
static int add(int x) { return x + counter; }
static int *address(void) { return &counter; }
static int inside(void) { static _Thread_local int calls = 7; return calls++; }
static _Thread_local int (*function)(int) = add;

int main(void) {
    int *first = address();
    mixed.text = "text";
    mixed.f = add;
    for (int i = 0; i < 5; i++) {
        counter += i;
        zeroed[i] += i * 0.5;
        line[0]++;
        printf("%d %g %s %d %d %d\n", mixed.f(i), zeroed[i], line, inside(), function(1), first == address() && *first == counter);
    }
    return (int)((uintptr_t)line % 64);
}
