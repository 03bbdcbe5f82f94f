/* pthread_exit of main: the process lives until its last thread ends, and then runs what atexit was given. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void last(void) { puts("last"); }
static void *body(void *argument) { usleep(50000); puts("thread"); return argument; }

int main(void) {
    pthread_t thread;
    atexit(last);
    pthread_create(&thread, NULL, body, NULL);
    pthread_detach(thread);
    pthread_exit(NULL);
}
