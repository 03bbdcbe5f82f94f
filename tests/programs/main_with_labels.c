/* The labels of main itself outlive an activation. */
#include <stdio.h>
static void *resume;
static int twice(int x) { return 2 * x; }
int main(int argc, char **argv) {
    static int entered;
    if (entered++) goto *resume;
    resume = &&again;
    printf("first %d\n", twice(argc));
    return main(argc + 1, argv);
again:
    resume = &&last;
    printf("again %d\n", twice(argc));
    return main(argc + 1, argv);
last:
    printf("last %d\n", twice(argc));
    return 5;
}
