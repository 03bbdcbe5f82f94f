/* The environment: read, changed, removed, and seen alike through getenv, environ and a child. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern char **environ;
static char own[] = "CORPUS_OWN=by putenv";
static const char *scan(const char *name) {
    size_t n = strlen(name);
    for (char **e = environ; *e; e++) if (!strncmp(*e, name, n) && (*e)[n] == '=') return *e + n + 1;
    return "(none)";
}
static void both(const char *name) { const char *v = getenv(name); printf("%s %s\n", v ? v : "(none)", scan(name)); }

int main(void) {
    both("RUN_IR_TEST");
    both("CORPUS_NEW");
    setenv("CORPUS_NEW", "one", 0);
    setenv("CORPUS_NEW", "two", 0);
    both("CORPUS_NEW");
    setenv("CORPUS_NEW", "three", 1);
    putenv(own);
    own[11] = 'B';
    both("CORPUS_OWN");
    fflush(stdout);
    int status = system("echo \"child $CORPUS_NEW $CORPUS_OWN\"; exit 4");
    unsetenv("CORPUS_NEW");
    both("CORPUS_NEW");
    clearenv();
    printf("%d %d\n", status >> 8, environ == NULL || *environ == NULL);
    return 0;
}
