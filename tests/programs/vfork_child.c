/* A child that shares the parent's memory until it runs another program, or ends. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int seen;
static int child(int (*body)(void)) {
    int status;
    pid_t pid = vfork();
    if (pid == 0) _exit(body());
    if (pid < 0 || waitpid(pid, &status, 0) != pid) return -1;
    return WEXITSTATUS(status);
}
static int ends(void) { seen += 5; return 3; }
static int runs(void) { execl("/bin/sh", "sh", "-c", "exit 4", (char *)0); return 9; }

int main(void) {
    printf("%d", child(ends));
    printf(" %d", child(runs));
    printf(" %d\n", seen);
    return 0;
}
