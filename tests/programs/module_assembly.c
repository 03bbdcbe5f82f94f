/* Assembly beside the functions: refused. */
#include <stdio.h>
__asm__(".globl from_assembly\nfrom_assembly: movl $42, %eax\n\tret\n");
int from_assembly(void);

int main(void) {
    printf("%d\n", from_assembly());
    return 0;
}
