/* abort and a failed assertion end by SIGABRT; handlers registered for exit do not run. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

static void never(void) { printf("never\n"); fflush(stdout); }
static int check(int x) { assert(x < 3 && "too large"); return x; }

int main(void) {
    atexit(never);
    for (int i = 0; i < 9; i++) {
        printf("%d\n", i);
        fflush(stdout);
        check(i);
    }
    return 0;
}
