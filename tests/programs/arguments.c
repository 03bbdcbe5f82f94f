/* What main is given. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char *argv[], char *envp[]) {
    int found = 0;
    for (char **e = envp; *e; e++) found += !strncmp(*e, "RUN_IR_TEST=", 12);
    printf("%d %d %s %d\n", argc, found, getenv("RUN_IR_TEST"), argv[argc] == NULL);
    for (int i = 1; i < argc; i++) printf("<%s>\n", argv[i]);
    int c, sum = 0;
    while ((c = getchar()) != EOF) sum += c;
    printf("%d\n", sum);
    return argc + 100;
}
