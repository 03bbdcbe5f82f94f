/* Timers that call a function on a thread of libc's own; one ends its thread itself. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int ticks[2];
static __thread int own;

static void tick(union sigval value) {
    own++;
    pthread_mutex_lock(&lock);
    ticks[value.sival_int] += own;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    if (value.sival_int) pthread_exit(NULL);
}

int main(void) {
    timer_t timers[2];
    for (int i = 0; i < 2; i++) {
        struct sigevent event = {0};
        event.sigev_notify = SIGEV_THREAD;
        event.sigev_notify_function = tick;
        event.sigev_value.sival_int = i;
        if (timer_create(CLOCK_MONOTONIC, &event, &timers[i])) return 1;
        struct itimerspec often = {{0, 3000000}, {0, 1000000}};
        if (timer_settime(timers[i], 0, &often, NULL)) return 2;
    }
    pthread_mutex_lock(&lock);
    while (ticks[0] < 5 || ticks[1] < 5) pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 2; i++)
        if (timer_delete(timers[i])) return 3;
    puts("both have called");
    return 0;
}
