/* A timer that goes off all the time. Calls go on after its handler, or fail by EINTR, as the handler was set up: in
 * streams, which call the system themselves, as in system calls. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t ticks;
static int ends[2];
static void tick(int s) { (void)s; ticks++; }
static void every(long microseconds) {
    struct itimerval timer = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &timer, NULL);
}
static void handle(int flags) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = tick;
    action.sa_flags = flags;
    sigaction(SIGALRM, &action, NULL);
}
static void block(void) {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
}

static void *writes(void *argument) {
    block();
    FILE *to = fdopen(ends[1], "w");
    for (int i = 0; i < 5; i++) { usleep(20000); fprintf(to, "line %d\n", i); fflush(to); }
    fclose(to);
    return argument;
}
static void *reads(void *argument) {
    static char buffer[4096];
    long all = 0, got;
    block();
    while ((got = read(ends[0], buffer, sizeof buffer)) > 0) { all += got; usleep(500); }
    *(long *)argument = all;
    return NULL;
}

int main(void) {
    pthread_t thread;
    char line[100];
    int lines = 0;
    handle(SA_RESTART);
    every(1000);
    if (pipe(ends)) return 1;
    pthread_create(&thread, NULL, writes, NULL);
    FILE *from = fdopen(ends[0], "r");
    while (fgets(line, sizeof line, from)) { lines++; fputs(line, stdout); }
    printf("%d lines, error %d\n", lines, ferror(from));
    pthread_join(thread, NULL);
    fclose(from);

    if (pipe(ends)) return 1;
    long arrived = 0, sent = 0;
    pthread_create(&thread, NULL, reads, &arrived);
    FILE *to = fdopen(ends[1], "w");
    for (int i = 0; i < 40000; i++) sent += fprintf(to, "%08d\n", i);
    int failed = ferror(to) | fclose(to);
    pthread_join(thread, NULL);
    printf("%ld %ld %d\n", sent, arrived, failed);
    printf("%d\n", ticks > 20);

    /* From here on the handler ends calls. */
    handle(0);
    every(20000);
    if (pipe(ends)) return 1;
    from = fdopen(ends[0], "r");
    int before = ticks;
    char *none = fgets(line, sizeof line, from);
    printf("fgets %d %d %d\n", none == NULL, errno == EINTR, ticks > before);
    sem_t never;
    sem_init(&never, 0, 0);
    printf("sem_wait %d %d\n", sem_wait(&never), errno == EINTR);
    char name[] = "/tmp/run_ir_fifo_XXXXXX";
    if (!mkdtemp(name)) return 2;
    char fifo[100];
    snprintf(fifo, sizeof fifo, "%s/fifo", name);
    mkfifo(fifo, 0600);
    printf("open %d %d\n", open(fifo, O_RDONLY), errno == EINTR);
    unlink(fifo);
    rmdir(name);
    printf("sleep %d\n", sleep(5) > 0);
    every(0);
    return 0;
}
