/* glibc gives constructors what main gets; a constructor may register handlers, and end the program. */
#include <stdio.h>
#include <stdlib.h>

static int seen;
static void after(void) { printf("after %d\n", seen); }
__attribute__((constructor)) static void look(int argc, char **argv, char **envp) { seen = argc * 10 + (envp != NULL) + (argv[argc] == NULL); atexit(after); }
__attribute__((constructor(65000))) static void maybe_end(int argc, char **argv) {
    printf("constructor\n");
    if (argc > 1) { printf("%s\n", argv[1]); exit(33); }
}
__attribute__((destructor)) static void last(void) { printf("destructor\n"); }

int main(int argc, char **argv) {
    (void)argv;
    printf("main %d\n", seen);
    return argc;
}
