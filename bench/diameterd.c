/* The cheapest Diameter server: answers with bytes that the benchmark has prepared, and sends PNRs.
 *
 *   diameterd HOST PORT DIRECTORY [COUNT WINDOW]
 *
 * DIRECTORY/257, 280, 282, 306: the AVPs of the answer to that command (306: after the Session-Id of the request;
 * eight '#' in it are replaced by the number of the user-NNNNNNNN that was asked for).
 * With COUNT: once a peer has had its CEA and sent its first UDR, COUNT requests are sent, WINDOW of them unanswered
 * at most.  DIRECTORY/309 is the whole PNR; five '#' in it (the sequence number) are replaced by a number.  Prints
 * "ready", and at the end of the pushes how long they took in seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_PEERS 16
#define BUFFER (1 << 20)

static struct { unsigned char *data; size_t size; } prepared[512];
static struct peer { int fd; size_t n; unsigned char *in; } peers[MAX_PEERS];
static long to_push, pushed, answered, window;
static double began;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void load(const char *directory, int code) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%d", directory, code);
    FILE *f = fopen(path, "rb");
    if (!f) return;
    prepared[code].data = malloc(BUFFER);
    prepared[code].size = fread(prepared[code].data, 1, BUFFER, f);
    fclose(f);
}

static uint32_t get32(const unsigned char *p) { uint32_t v; memcpy(&v, p, 4); return ntohl(v); }
static void put32(unsigned char *p, uint32_t v) { v = htonl(v); memcpy(p, &v, 4); }

static void send_all(int fd, const unsigned char *p, size_t n) {
    while (n) {
        ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
        if (sent < 0) {
            struct pollfd w = {fd, POLLOUT, 0};
            if (poll(&w, 1, 1000) <= 0) return;
            continue;
        }
        p += sent, n -= sent;
    }
}

static void push_more(int fd) {
    static unsigned char *place;
    unsigned char *pnr = prepared[309].data;
    size_t size = prepared[309].size;
    if (!place) place = memmem(pnr, size, "#####", 5);
    while (pushed < to_push && pushed - answered < window) {
        char digits[16];
        if (place) {
            snprintf(digits, sizeof digits, "%05ld", 1 + pushed % 65000);
            memcpy(place, digits, 5);
        }
        put32(pnr + 12, (uint32_t)pushed + 1);
        put32(pnr + 16, (uint32_t)pushed + 1);
        send_all(fd, pnr, size);
        pushed++;
    }
}

static void handle(int fd, const unsigned char *m, size_t size) {
    static unsigned char out[BUFFER];
    uint32_t word = get32(m + 4), code = word & 0xFFFFFF;
    if (!(word >> 31)) {
        if (code != 309) return;
        answered++;
        if (answered == to_push) printf("%.6f\n", now() - began), fflush(stdout);
        push_more(fd);
        return;
    }
    if (code >= 512 || !prepared[code].data) return;
    size_t n = 20;
    if (code > 282) {  /* Session-Id leads */
        size_t session = ((get32(m + 24) & 0xFFFFFF) + 3) & ~(size_t)3;
        if (20 + session > size) return;
        memcpy(out + n, m + 20, session);
        n += session;
    }
    memcpy(out + n, prepared[code].data, prepared[code].size);
    n += prepared[code].size;
    const unsigned char *asked = code == 306 ? memmem(m, size, "user-", 5) : 0;
    unsigned char *place = asked ? memmem(out, n, "########", 8) : 0;
    if (place && asked + 13 <= m + size) memcpy(place, asked + 5, 8);
    put32(out, 1u << 24 | (uint32_t)n);
    put32(out + 4, (word & 0x40000000) | code);
    memcpy(out + 8, m + 8, 12);
    send_all(fd, out, n);
    if (code == 306 && to_push && !pushed) {
        began = now();
        push_more(fd);
    }
}

static int receive(struct peer *p) {
    ssize_t got = recv(p->fd, p->in + p->n, BUFFER - p->n, 0);
    if (got <= 0) return 0;
    p->n += got;
    size_t at = 0;
    while (p->n - at >= 20) {
        size_t size = get32(p->in + at) & 0xFFFFFF;
        if (size < 20 || size > BUFFER / 2) return 0;
        if (p->n - at < size) break;
        handle(p->fd, p->in + at, size);
        at += size;
    }
    memmove(p->in, p->in + at, p->n - at);
    p->n -= at;
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    static const int codes[] = {257, 280, 282, 306, 309};
    for (int i = 0; i < 5; i++) load(argv[3], codes[i]);
    if (argc > 5) to_push = atol(argv[4]), window = atol(argv[5]);
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
    inet_pton(AF_INET, argv[1], &address.sin_addr);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 8)) return perror("bind"), 1;
    printf("ready\n"), fflush(stdout);
    int n_peers = 0;
    for (;;) {
        struct pollfd waits[MAX_PEERS + 1] = {{listener, POLLIN, 0}};
        for (int i = 0; i < n_peers; i++) waits[i + 1] = (struct pollfd){peers[i].fd, POLLIN, 0};
        if (poll(waits, n_peers + 1, -1) < 0) continue;
        for (int i = n_peers - 1; i >= 0; i--)
            if (waits[i + 1].revents && !receive(&peers[i])) {
                close(peers[i].fd), free(peers[i].in);
                peers[i] = peers[--n_peers];
            }
        if (waits[0].revents) {
            int fd = accept(listener, 0, 0);
            if (fd < 0 || n_peers == MAX_PEERS) { close(fd); continue; }
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            peers[n_peers++] = (struct peer){fd, 0, malloc(BUFFER)};
        }
    }
}
