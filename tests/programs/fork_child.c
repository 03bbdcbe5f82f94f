/* A child by fork that runs functions of the program, and tells by a pipe and its exit code. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static int square(int x) { return x * x; }
static int cube(int x) { return x * square(x); }

int main(void) {
    int ends[2], value = 0, status;
    if (pipe(ends)) return 1;
    pid_t child = fork();
    if (child == 0) { value = cube(5); if (write(ends[1], &value, sizeof value) < 0) _exit(9); _exit(square(3)); }
    if (read(ends[0], &value, sizeof value) < 0) return 2;
    waitpid(child, &status, 0);
    printf("%d %d %d\n", value, WEXITSTATUS(status), square(4));
    return 0;
}
