/* Thread-locals across threads: each has its own from the initialiser, and addresses differ while both live. */
#include <pthread.h>
#include <stdio.h>

static _Thread_local int number = 10;
static _Thread_local char room[5000] = "start";
static _Thread_local int *self;
static int *addresses[4];
static pthread_barrier_t barrier;
static int bump(int by) { self = &number; return *self += by; }
static void *work(void *argument) {
    long index = (long)argument;
    addresses[index] = &number;
    for (int i = 0; i < 100; i++) bump((int)index);
    room[0] = (char)('a' + index);
    pthread_barrier_wait(&barrier);
    return (void *)(long)(bump(0) * 1000 + room[0] + (self == addresses[index] ? 0 : 100000));
}

int main(void) {
    pthread_t threads[4];
    pthread_barrier_init(&barrier, NULL, 4);
    for (long i = 0; i < 4; i++) pthread_create(&threads[i], NULL, work, (void *)i);
    long results[4];
    for (int i = 0; i < 4; i++) pthread_join(threads[i], (void **)&results[i]);
    int different = 0;
    for (int i = 0; i < 4; i++) for (int k = 0; k < i; k++) different += addresses[i] != addresses[k];
    for (int i = 0; i < 4; i++) printf("%ld ", results[i]);
    printf("%d %d %s\n", different, number, room);
    return 0;
}
