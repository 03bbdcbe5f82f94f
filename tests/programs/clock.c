/* Time: broken down, formatted, monotonic, and slept. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds(clockid_t clock) { struct timespec t; clock_gettime(clock, &t); return (double)t.tv_sec + (double)t.tv_nsec / 1e9; }
static void show(time_t t) {
    struct tm parts;
    char text[64];
    gmtime_r(&t, &parts);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S day %j", &parts);
    printf("%s %d %ld\n", text, parts.tm_wday, (long)(timegm(&parts) - t));
}

int main(void) {
    setenv("TZ", "UTC0", 1);
    tzset();
    time_t moments[] = {0, 951782400, 1000000000, 2147483647, -1};
    for (int i = 0; i < 5; i++) show(moments[i]);
    double start = seconds(CLOCK_MONOTONIC);
    struct timespec wait = {0, 2000000};
    nanosleep(&wait, NULL);
    double after = seconds(CLOCK_MONOTONIC);
    struct tm parts = {.tm_year = 100, .tm_mon = 13, .tm_mday = 31};
    time_t made = mktime(&parts);
    printf("%d %d %ld %s", after - start >= 0.002, time(NULL) > 1000000000, (long)made, ctime(&moments[2]));
    return clock() == (clock_t)-1;
}
