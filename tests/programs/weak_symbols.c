/* Weak symbols: defined, undefined, of libc, variables, and addresses compared with null. */
#include <stdio.h>

__attribute__((weak)) int defined(int x) { return x + 1; }
__attribute__((weak)) int variable = 17;
extern int missing_function(int) __attribute__((weak));
extern int missing_variable __attribute__((weak));
extern int puts(const char *) __attribute__((weak));
extern char **environ __attribute__((weak));
static int (*const table[])(int) = {defined, missing_function};
static int *const pointers[] = {&variable, &missing_variable};

static int call_if(int i, int x) { return table[i] ? table[i](x) : -1; }
#define read_if(i) (pointers[i] ? *pointers[i] : -2)

int main(void) {
    for (int i = 0; i < 2; i++) printf("%d %d\n", call_if(i, i), read_if(i));
    variable++;
    if (puts) puts("puts is there");
    if (&environ && environ) printf("%d %d\n", variable, missing_function == 0);
    return &missing_variable == 0 ? defined(4) : 1;
}
