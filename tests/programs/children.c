/* Child processes that libc makes: system, popen both ways, posix_spawn, and their exit codes. */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;
static int code(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status); }
static int spawn(char *const words[]) {
    pid_t child;
    int status = 0;
    if (posix_spawn(&child, "/bin/sh", NULL, NULL, words, environ)) return -100;
    waitpid(child, &status, 0);
    return code(status);
}

int main(void) {
    char text[64] = "";
    printf("%d %d\n", code(system("exit 7")), code(system("kill -9 $$")));
    FILE *in = popen("echo from a child; exit 3", "r");
    if (fgets(text, sizeof text, in)) printf("%s", text);
    printf("%d\n", code(pclose(in)));
    fflush(stdout);
    FILE *out = popen("tr a-z A-Z", "w");
    fprintf(out, "to a child\n");
    printf("%d\n", code(pclose(out)));
    char *const words[] = {"sh", "-c", "exit $1", "sh", "42", NULL};
    return spawn(words);
}
