/*
 * sipload - SIP callers with a good clock: more calls per second than SIPp can
 * make on one core, and response times that do not come in steps of a loop.
 *
 *   sipload OURHOST SERVERHOST PORT RATE SECONDS HOLD_MS
 *
 * Open loop: calls begin at random moments (Poisson) whatever happens to the
 * others.  INVITE with SDP, ACK, BYE after the hold time.  Nothing is sent
 * twice: a lost message is a failed call.  One JSON line: calls completed,
 * refused (503) and failed, and the time from INVITE to its first response.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <stdint.h>
#include <math.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define NS 1000000000LL
#define DRAIN_NS (3 * NS)      /* after the last BYE */

struct call { int64_t sent, bye_at; char to[160]; char first, answered, done; };

static struct call *calls;
static int64_t *times;
static unsigned begun, byes, n_times, completed, refused, strange;
static int sock, pid;           /* the process tells this run from others */
static const char *our_host, *server_host, *port;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * NS + t.tv_nsec;
}

static void send_request(const char *method, unsigned n, const char *to, int cseq, const char *branch)
{
    char body[256] = "", text[1600];
    int length = 0;
    if (*method == 'I')
        length = sprintf(body, "v=0\r\no=- 1 1 IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n"
                         "a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n", our_host, our_host);
    int size = snprintf(text, sizeof text,
        "%s sip:ai@%s:%s SIP/2.0\r\nVia: SIP/2.0/UDP %s:5060;branch=z9hG4bK-%u-%d-%s\r\n"
        "From: <sip:load%u@%s:5060>;tag=l%u\r\n%s\r\nCall-ID: %u-%d-load@%s\r\nCSeq: %d %s\r\n"
        "Contact: <sip:load@%s:5060>\r\nMax-Forwards: 70\r\n%sContent-Length: %d\r\n\r\n%s",
        method, server_host, port, our_host, n, pid, branch, n, our_host, n, to, n, pid, our_host, cseq, method,
        our_host, length ? "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS\r\nContent-Type: application/sdp\r\n" : "",
        length, body);
    send(sock, text, size, 0);
}

static void receive(char *text, int64_t at)
{
    char *id = strstr(text, "\r\nCall-ID: "), *cseq = strstr(text, "\r\nCSeq: "), *to = strstr(text, "\r\nTo: ");
    if (strncmp(text, "SIP/2.0 ", 8) || !id || !cseq || !to) { strange++; return; }
    unsigned n = strtoul(id + 11, NULL, 10);
    int status = atoi(text + 8);
    if (n >= begun) { strange++; return; }
    struct call *call = calls + n;
    if (strtol(cseq + 8, NULL, 10) == 2) {
        if (status >= 200 && !call->done) { call->done = 1; completed++; }
        return;
    }
    if (!call->first) { call->first = 1; times[n_times++] = at - call->sent; }
    if (status < 200 || call->answered) return;
    call->answered = 1;
    to += 2;
    int size = strcspn(to, "\r");
    snprintf(call->to, sizeof call->to, "%.*s", size, to);
    send_request("ACK", n, call->to, 1, status < 300 ? "ACK" : "INVITE");
    if (status >= 300) { call->done = 1; if (status == 503) refused++; else strange++; }
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double quantile_ms(double share)
{
    return n_times ? times[(unsigned)((n_times - 1) * share)] / 1e6 : -1;
}

int main(int argc, char **argv)
{
    if (argc != 7) { fprintf(stderr, "usage: sipload OURHOST SERVERHOST PORT RATE SECONDS HOLD_MS\n"); return 2; }
    our_host = argv[1]; server_host = argv[2]; port = argv[3];
    double rate = atof(argv[4]), seconds = atof(argv[5]);
    int64_t hold = atoll(argv[6]) * 1000000LL;
    unsigned room = rate * seconds * 1.2 + 1000;
    calls = calloc(room, sizeof *calls);
    times = calloc(room, sizeof *times);
    struct sockaddr_in ours = { .sin_family = AF_INET, .sin_port = htons(5060) };
    struct sockaddr_in server = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
    inet_pton(AF_INET, our_host, &ours.sin_addr);
    inet_pton(AF_INET, server_host, &server.sin_addr);
    sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int big = 8 << 20;
    setsockopt(sock, SOL_SOCKET, SO_RCVBUF, &big, sizeof big);
    if (bind(sock, (void *)&ours, sizeof ours) || connect(sock, (void *)&server, sizeof server)) {
        perror("sipload");
        return 1;
    }
    pid = getpid();
    srand48(1);
    char to[160], text[65536];
    snprintf(to, sizeof to, "To: <sip:ai@%s:%s>", server_host, port);
    int64_t start = now(), next = start, end = start + seconds * NS, stop = end + hold + DRAIN_NS;
    for (;;) {
        int64_t at = now();
        while (next <= at && next < end && begun < room) {
            calls[begun].sent = now();
            calls[begun].bye_at = calls[begun].sent + hold;
            send_request("INVITE", begun++, to, 1, "INVITE");
            next += -log(1 - drand48()) / rate * NS;
        }
        for (; byes < begun && calls[byes].bye_at <= at; byes++)
            if (calls[byes].answered && !calls[byes].done)
                send_request("BYE", byes, calls[byes].to, 2, "BYE");
        ssize_t size;
        while ((size = recv(sock, text, sizeof text - 1, 0)) > 0) {
            text[size] = 0;
            receive(text, now());
        }
        if (at >= stop || (next >= end && byes == begun && completed + refused == begun)) break;
        int64_t wake = next < end ? next : stop;
        if (byes < begun && calls[byes].bye_at < wake) wake = calls[byes].bye_at;
        int64_t rest = wake - now();
        if (rest > 0) {
            struct timespec t = { rest / NS, rest % NS };
            struct pollfd p = { sock, POLLIN, 0 };
            ppoll(&p, 1, &t, NULL);
        }
    }
    qsort(times, n_times, sizeof *times, compare);
    printf("{\"calls\": %u, \"completed\": %u, \"refused\": %u, \"failed\": %u, \"strange\": %u, "
           "\"p50\": %.2f, \"p90\": %.2f, \"p99\": %.2f, \"p999\": %.2f, \"max\": %.2f}\n",
           begun, completed, refused, begun - completed - refused, strange,
           quantile_ms(.5), quantile_ms(.9), quantile_ms(.99), quantile_ms(.999), quantile_ms(1));
    return 0;
}
