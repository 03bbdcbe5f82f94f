/* Threads, one after the other, with large variables of their own; and signal actions by the hundred
 * thousand: nothing of them stays. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static _Thread_local char first = 1, mine[1 << 20];
static pthread_key_t key;
static int destroyed;
static void destroy(void *value) { destroyed += ((char *)value)[0] + ((char *)value)[sizeof mine - 1] == 3; }
static void *work(void *argument) {
    memset(mine, 2, sizeof mine);
    mine[0] = first;
    pthread_setspecific(key, mine);
    return argument;
}
static void handler(int s) { (void)s; }

static long resident_kib(void) {
    long all = 0, resident = 0;
    FILE *status = fopen("/proc/self/statm", "r");
    if (!status || fscanf(status, "%ld %ld", &all, &resident) != 2) return -1;
    fclose(status);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}
static void threads(int count) {
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        pthread_create(&thread, NULL, work, NULL);
        pthread_join(thread, NULL);
    }
}
static void actions(int count) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    for (int i = 0; i < count; i++) sigaction(SIGUSR1, &action, NULL);
}

int main(void) {
    pthread_key_create(&key, destroy);
    threads(5);
    actions(100);
    long before = resident_kib();
    threads(80);
    actions(400000);
    long grown = resident_kib() - before;
    /* The threads' variables alone are 80 MiB, the actions 60. */
    if (grown > 40 << 10) printf("%ld KiB stay\n", grown);
    printf("%d\n", destroyed);
    return 0;
}
