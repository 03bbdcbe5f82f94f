/* Pipes, poll, select, files and directories by system calls. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int ready(int fd, short what) { struct pollfd p = {fd, what, 0}; return poll(&p, 1, 0) == 1 && p.revents & what; }
static unsigned sum(const char *p, size_t n) { unsigned s = 0; while (n--) s = s * 33 + (unsigned char)*p++; return s; }

int main(void) {
    int ends[2];
    if (pipe(ends)) return 1;
    printf("%d %d\n", ready(ends[0], POLLIN), ready(ends[1], POLLOUT));
    char text[200];
    for (int i = 0; i < 3; i++) dprintf(ends[1], "message %d\n", i);
    printf("%d\n", ready(ends[0], POLLIN));
    ssize_t n = read(ends[0], text, sizeof text);
    printf("%zd %u\n", n, sum(text, (size_t)n));
    close(ends[1]);
    printf("%zd\n", read(ends[0], text, 1));
    char name[] = "/tmp/corpus-XXXXXX";
    int fd = mkstemp(name);
    struct stat about;
    for (int i = 0; i < 1000; i++) if (write(fd, "0123456789", 10) != 10) return 2;
    fstat(fd, &about);
    printf("%ld %d\n", (long)about.st_size, S_ISREG(about.st_mode));
    lseek(fd, 4995, SEEK_SET);
    n = read(fd, text, 7);
    printf("%.*s\n", (int)n, text);
    close(fd);
    return unlink(name);
}
