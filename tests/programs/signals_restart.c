/* A handler that must run while a call waits that goes on after it: the call reads what the handler writes. */
#include <signal.h>
#include <stdio.h>
#include <sys/time.h>
#include <unistd.h>

static int ends[2];
static void writes(int s) { (void)s; (void)!write(ends[1], "x", 1); }

int main(void) {
    char c = 0;
    struct itimerval soon = {{0, 0}, {0, 50000}};
    if (pipe(ends)) return 1;
    signal(SIGALRM, writes);
    setitimer(ITIMER_REAL, &soon, NULL);
    long got = read(ends[0], &c, 1);
    printf("%ld %c\n", got, c);
    return 0;
}
