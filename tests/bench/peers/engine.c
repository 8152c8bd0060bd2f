/* An engine that costs next to nothing: OpenAI's answers, whole or streamed, from one epoll loop.
 *
 *   engine PORT
 *
 * A request whose body has "stream":true is answered with "max_tokens" chunks, the first "top_k" milliseconds after its
 * head, then one each "seed" milliseconds, each with a running usage; then the final usage and [DONE]. Any other gets
 * one JSON answer. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { FDS_MAX = 20000, BUFFER_BYTES = 1 << 17 };

typedef struct {
    char *buffer;
    size_t filled;
    int chunks_left, chunk, period_ms, due_ms, listed;
    int first; /* A timer of its own until its first chunk: one for all would beat in time with those who ask again. */
} Client;

static Client *clients[FDS_MAX];
static int streaming[FDS_MAX], streams, now_ms, epoll;
static int stream_of[FDS_MAX]; /* By timer: whose first chunk it is for. */

static const char ANSWER[] =
    "{\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m\","
    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The quick brown fox jumps over the lazy "
    "dog, and then it does so once more, because an answer of a sentence or two is what most requests get.\"},"
    "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":420,\"total_tokens\":450,"
    "\"completion_tokens\":30,\"prompt_tokens_details\":null},\"system_fingerprint\":null}";
static const char EVENT[] =
    "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m\","
    "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"},\"logprobs\":null,\"finish_reason\":%s}]%s}\n\n";

static void drop(int fd) {
    Client *client = clients[fd];
    for (int i = 0; client->listed && i < streams; i++)
        if (streaming[i] == fd) { streaming[i] = streaming[--streams]; break; }
    if (client->first) { stream_of[client->first] = 0; close(client->first); }
    free(client->buffer);
    free(client);
    clients[fd] = NULL;
    close(fd);
}

static int say(int fd, const char *data, size_t bytes) {
    return write(fd, data, bytes) == (ssize_t)bytes ? 0 : -1; /* Nobody here reads that slowly: give it up. */
}

/* One chunk of the stream; -1 if the client is gone. `with_usage`: running counts, as vLLM gives them when asked. */
static int say_chunk(int fd, int with_usage) {
    Client *client = clients[fd];
    char event[768], usage[160] = "", out[1536];
    int is_last = --client->chunks_left == 0, bytes;
    client->chunk++;
    if (with_usage)
        snprintf(usage, sizeof usage, ",\"usage\":{\"prompt_tokens\":420,\"total_tokens\":%d,\"completion_tokens\":%d}",
                 420 + client->chunk, client->chunk);
    int length = snprintf(event, sizeof event, EVENT, is_last ? "\"stop\"" : "null", usage);
    bytes = snprintf(out, sizeof out, "%x\r\n%s\r\n", length, event);
    if (is_last) {
        if (with_usage) {
            length = snprintf(event, sizeof event,
                              "data: {\"id\":\"chatcmpl-0123456789abcdef\",\"object\":\"chat.completion.chunk\","
                              "\"created\":1700000000,\"model\":\"m\",\"choices\":[]%s}\n\n", usage);
            bytes += snprintf(out + bytes, sizeof out - bytes, "%x\r\n%s\r\n", length, event);
        }
        bytes += snprintf(out + bytes, sizeof out - bytes, "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
    }
    return say(fd, out, bytes);
}

static int number(const char *body, const char *name, int otherwise) {
    const char *found = strstr(body, name);
    return found ? atoi(found + strlen(name)) : otherwise;
}

/* The first chunk; the others follow by the one timer of all. */
static int begin(int fd) {
    Client *client = clients[fd];
    client->due_ms = now_ms + client->period_ms;
    if (say_chunk(fd, client->chunk < 1 << 20)) return -1;
    if (client->chunks_left > 0) { streaming[streams++] = fd; client->listed = 1; }
    return 0;
}

static int begin_in(int fd, int delay_ms) {
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    if (timer < 0 || timer >= FDS_MAX) return -1;
    struct itimerspec once = {{0, 0}, {delay_ms / 1000, delay_ms % 1000 * 1000000L}};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = timer};
    timerfd_settime(timer, 0, &once, NULL);
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
    clients[fd]->first = timer;
    stream_of[timer] = fd;
    return 0;
}

static int on_first(int timer) {
    int fd = stream_of[timer];
    stream_of[timer] = clients[fd]->first = 0;
    close(timer);
    return begin(fd) ? fd : 0;
}

static int answer(int fd, char *body) {
    Client *client = clients[fd];
    if (!strstr(body, "\"stream\":true")) {
        char out[1024];
        int bytes = snprintf(out, sizeof out,
                             "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
                             sizeof ANSWER - 1, ANSWER);
        return say(fd, out, bytes);
    }
    static const char HEAD[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    client->chunks_left = number(body, "\"max_tokens\":", 16);
    client->period_ms = number(body, "\"seed\":", 20);
    client->chunk = strstr(body, "\"continuous_usage_stats\":true") ? 0 : 1 << 20; /* Above: runs without usage. */
    if (say(fd, HEAD, sizeof HEAD - 1)) return -1;
    int delay_ms = number(body, "\"top_k\":", 0);
    return delay_ms ? begin_in(fd, delay_ms) : begin(fd);
}

static int on_data(int fd) {
    Client *client = clients[fd];
    ssize_t got = read(fd, client->buffer + client->filled, BUFFER_BYTES - 1 - client->filled);
    if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
    client->filled += got;
    for (;;) {
        client->buffer[client->filled] = 0;
        char *end = strstr(client->buffer, "\r\n\r\n");
        if (!end) return 0;
        char *length = strcasestr(client->buffer, "content-length:");
        size_t whole = end + 4 - client->buffer + (length && length < end ? strtoul(length + 15, NULL, 10) : 0);
        if (client->filled < whole) return 0;
        char after = client->buffer[whole];
        client->buffer[whole] = 0;
        if (answer(fd, end + 4)) return -1;
        client->buffer[whole] = after;
        memmove(client->buffer, client->buffer + whole, client->filled - whole);
        client->filled -= whole;
    }
}

static void on_tick(int timer) {
    unsigned long ticks;
    if (read(timer, &ticks, sizeof ticks) != sizeof ticks) return;
    now_ms += ticks;
    for (int i = 0; i < streams;) {
        int fd = streaming[i];
        Client *client = clients[fd];
        if (client->due_ms - now_ms > 0) { i++; continue; }
        client->due_ms += client->period_ms;
        if (say_chunk(fd, client->chunk < 1 << 20)) { drop(fd); continue; }
        if (client->chunks_left <= 0) { client->listed = 0; streaming[i] = streaming[--streams]; continue; }
        i++;
    }
}

static void on_client(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (fd >= FDS_MAX) { close(fd); continue; }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        clients[fd] = calloc(1, sizeof(Client));
        clients[fd]->buffer = malloc(BUFFER_BYTES);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) { perror("engine"); return 1; }
    epoll = epoll_create1(0);
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct itimerspec each_ms = {{0, 1000000}, {0, 1000000}};
    timerfd_settime(timer, 0, &each_ms, NULL);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    event.data.fd = timer;
    epoll_ctl(epoll, EPOLL_CTL_ADD, timer, &event);
    for (;;) {
        int count = epoll_wait(epoll, events, 256, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) on_client(listener);
            else if (fd == timer) on_tick(timer);
            else if (stream_of[fd]) { if ((fd = on_first(fd))) drop(fd); }
            else if (clients[fd] && on_data(fd)) drop(fd);
        }
    }
}
