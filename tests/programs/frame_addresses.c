/* Addresses of frames and of returns: they differ by activation, and lie where they must. */
#include <stdio.h>

static void *outer;
__attribute__((noinline)) static void *here(void) { return __builtin_frame_address(0); }
__attribute__((noinline)) static int below(int n) {
    char *frame = __builtin_frame_address(0);
    int down = frame < (char *)outer;
    return n ? below(n - 1) + down : down;
}
__attribute__((noinline)) static int returns(void *previous) { return __builtin_return_address(0) != previous && __builtin_return_address(0) != 0; }

int main(void) {
    outer = __builtin_frame_address(0);
    char local;
    printf("%d %d %d\n", below(9), returns(0), here() != outer);
    return __builtin_object_size(&local, 0) != 1;
}
