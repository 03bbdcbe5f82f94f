/* getopt: variables that libc and the program share. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static int verbose;
static const struct option longs[] = {{"name", required_argument, 0, 'n'}, {"verbose", no_argument, &verbose, 5}, {"level", optional_argument, 0, 'l'}, {0}};
static int level(const char *text) { return text ? atoi(text) : 1; }

int main(int argc, char **argv) {
    int c, levels = 0;
    opterr = 0;
    while ((c = getopt_long(argc, argv, "+n:l::x", longs, 0)) != -1) {
        switch (c) {
        case 'n': printf("name %s\n", optarg); break;
        case 'l': levels += level(optarg); break;
        case 'x': printf("x at %d\n", optind); break;
        case 0: printf("long %d\n", verbose); break;
        default: printf("unknown %c\n", optopt);
        }
    }
    printf("%d %d", levels, optind);
    for (int i = optind; i < argc; i++) printf(" %s", argv[i]);
    printf("\n");
    return levels;
}
