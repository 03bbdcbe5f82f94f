/* Variables and constants aligned to more than a page: of the program, of threads, and on the stack. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

static _Alignas(65536) char zeros[10];
static _Alignas(16384) int data[3] = {1, 2, 3};
_Alignas(32768) const char text[] = "constant";
static _Thread_local _Alignas(8192) int own = 4;
static int off(const volatile void *p, uintptr_t align) { return (int)((uintptr_t)p & (align - 1)); }
static void *thread(void *sum) {
    _Alignas(16384) volatile char local[100];
    local[3] = 5;
    own += local[3];
    *(int *)sum = own + off(local, 16384) + off(&own, 8192);
    return NULL;
}

int main(void) {
    pthread_t t;
    int sum;
    zeros[1] = 1;
    data[0] += zeros[1];
    printf("%d %d %d\n", off(zeros, 65536), off(data, 16384), off(text, 32768));
    printf("%d %s\n", data[0], text);
    for (int i = 0; i < 2; i++) {
        pthread_create(&t, NULL, thread, &sum);
        pthread_join(t, NULL);
        printf("%d %d\n", sum, own);
    }
    return 0;
}
