/* A load generator: keeps CONNECTIONS busy, one request after the other on each, for SECONDS; then says what it saw.
 *
 *   load PORT CONNECTIONS SECONDS REQUEST_FILE [RATE [WARM]]
 *
 * With a RATE it sends so many a second instead, whether they are answered or not, as long as a connection is free.
 * With WARM it counts from then on, SECONDS long, says "warm" when it begins to, and keeps its connections until its
 * input ends: so that what others spend meanwhile can be read at both ends.
 * The file is a whole HTTP request. Prints one line of JSON: requests answered 200, others, events of streams, and in
 * microseconds p50, p90 and p99 from request to the end of its answer, p50 to the first event or byte of a body; how many
 * requests were sent, and p50 and p99 of those that were refused. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 12000, BUFFER_BYTES = 1 << 16, TIMES_MAX = 1 << 22, TAIL_BYTES = 16 };

typedef struct {
    int fd, has_head, is_chunked, is_ok, is_first;
    long left;
    size_t unsent, head_bytes, tail_bytes;
    double began_us;
    char head[8192], tail[TAIL_BYTES];
} Connection;

static Connection connections[CONNECTIONS_MAX];
static char request[1 << 20], buffer[BUFFER_BYTES];
static size_t request_bytes;
static float took_us[TIMES_MAX], first_us[TIMES_MAX], refused_us[TIMES_MAX];
static long answered, refused, events_seen, firsts, asked, idle_count;
static double rate;
static Connection *idle[CONNECTIONS_MAX];
static int epoll, port;

static double now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e6 + now.tv_nsec / 1e3;
}

static void push(Connection *each) {
    while (each->unsent) {
        ssize_t sent = write(each->fd, request + request_bytes - each->unsent, each->unsent);
        if (sent < 0) break;
        each->unsent -= sent;
    }
    struct epoll_event event = {.events = EPOLLIN | (each->unsent ? EPOLLOUT : 0), .data.ptr = each};
    static int wants_out[CONNECTIONS_MAX];
    int index = each - connections;
    if (wants_out[index] != !!each->unsent) {
        wants_out[index] = !!each->unsent;
        epoll_ctl(epoll, EPOLL_CTL_MOD, each->fd, &event);
    }
}

static void ask(Connection *each) {
    asked++;
    each->has_head = each->is_chunked = each->is_ok = each->is_first = 0;
    each->head_bytes = each->tail_bytes = 0;
    each->unsent = request_bytes;
    each->began_us = now_us();
    push(each);
}

static void dial(Connection *each) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    each->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(each->fd, (void *)&address, sizeof address)) { perror("load"); exit(1); }
    setsockopt(each->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(each->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = each};
    epoll_ctl(epoll, EPOLL_CTL_ADD, each->fd, &event);
    if (rate) idle[idle_count++] = each;
    else ask(each);
}

/* Whether the answer is over. Chunked ones are over when their last bytes are those of an empty chunk. */
static int body(Connection *each, const char *data, size_t bytes) {
    if (bytes && !each->is_first) {
        each->is_first = 1;
        if (firsts < TIMES_MAX) first_us[firsts++] = now_us() - each->began_us;
    }
    if (!each->is_chunked) return (each->left -= bytes) <= 0;
    for (const char *at = data, *end = data + bytes; (at = memmem(at, end - at, "data: {", 7)); at += 7) events_seen++;
    size_t kept = bytes < TAIL_BYTES ? bytes : TAIL_BYTES, old = TAIL_BYTES - kept;
    if (old > each->tail_bytes) old = each->tail_bytes;
    memmove(each->tail, each->tail + each->tail_bytes - old, old);
    memcpy(each->tail + old, data + bytes - kept, kept);
    each->tail_bytes = old + kept;
    return each->tail_bytes >= 5 && !memcmp(each->tail + each->tail_bytes - 5, "0\r\n\r\n", 5);
}

static int on_data(Connection *each) {
    ssize_t got = read(each->fd, buffer, BUFFER_BYTES);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    const char *data = buffer;
    if (!each->has_head) {
        size_t room = sizeof each->head - 1 - each->head_bytes, part = (size_t)got < room ? (size_t)got : room;
        memcpy(each->head + each->head_bytes, data, part);
        each->head[each->head_bytes + part] = 0;
        char *end = strstr(each->head, "\r\n\r\n");
        if (!end) { each->head_bytes += part; return 0; }
        size_t used = end + 4 - each->head - each->head_bytes;
        end[2] = 0;
        char *length = strcasestr(each->head, "\r\ncontent-length:");
        each->has_head = 1;
        each->is_ok = !strncmp(each->head + 8, " 200", 4);
        each->is_chunked = !length;
        each->left = length ? atol(length + 17) : 0;
        data += used;
        got -= used;
    }
    if (!body(each, data, got)) return 0;
    if (each->is_ok && answered < TIMES_MAX) took_us[answered++] = now_us() - each->began_us;
    else if (refused < TIMES_MAX) refused_us[refused++] = now_us() - each->began_us;
    if (rate) idle[idle_count++] = each;
    else ask(each);
    return 0;
}

static int by_size(const void *one, const void *other) {
    float difference = *(const float *)one - *(const float *)other;
    return (difference > 0) - (difference < 0);
}

static double part(float *times, long count, double share) {
    if (!count) return 0;
    qsort(times, count, sizeof *times, by_size);
    return times[(long)(share * (count - 1))];
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 7) return 2;
    rate = argc > 5 ? atof(argv[5]) : 0;
    double warm_s = argc > 6 ? atof(argv[6]) : 0;
    int is_cold = argc > 6;
    port = atoi(argv[1]);
    int count = atoi(argv[2]);
    double seconds = atof(argv[3]);
    FILE *file = fopen(argv[4], "rb");
    if (!file || count > CONNECTIONS_MAX) return 2;
    request_bytes = fread(request, 1, sizeof request, file);
    epoll = epoll_create1(0);
    for (int i = 0; i < count; i++) dial(&connections[i]);
    double began_us = now_us(), warm_us = began_us + warm_s * 1e6, end_us = warm_us + seconds * 1e6;
    struct epoll_event events[256];
    while (now_us() < end_us) {
        if (is_cold && now_us() >= warm_us) {
            is_cold = 0;
            answered = refused = events_seen = firsts = asked = 0;
            began_us = now_us(); /* What a rate has yet to send, too. */
            printf("warm\n");
            fflush(stdout);
        }
        while (rate && idle_count && asked < (now_us() - began_us) * rate / 1e6) ask(idle[--idle_count]);
        int ready = epoll_wait(epoll, events, 256, rate ? 1 : 50);
        for (int i = 0; i < ready; i++) {
            Connection *each = events[i].data.ptr;
            if (events[i].events & EPOLLOUT) push(each);
            if (events[i].events & ~EPOLLOUT && on_data(each)) {
                refused++;
                close(each->fd);
                dial(each);
            }
        }
    }
    printf("{\"answered\": %ld, \"refused\": %ld, \"events\": %ld, \"p50_us\": %.1f, \"p90_us\": %.1f, \"first_us\": %.1f, ",
           answered, refused, events_seen, part(took_us, answered, .5), part(took_us, answered, .9), part(first_us, firsts, .5));
    printf("\"p99_us\": %.1f, ", part(took_us, answered, .99));
    printf("\"asked\": %ld, \"refused_p50_us\": %.1f, \"refused_p99_us\": %.1f}\n",
           asked, part(refused_us, refused, .5), part(refused_us, refused, .99));
    fflush(stdout);
    if (argc > 6 && getchar() != EOF) return 2;
    return 0;
}
