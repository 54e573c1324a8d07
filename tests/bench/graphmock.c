/* The benchmark's Graph API: takes every well-formed send, and remembers when it came. One thread, epoll, keep-alive.
 *
 *   graphmock PORT
 *
 *   POST /<version>/<phone number id>/messages   200 with a wamid; 401 unless the token is "token-<phone number id>"
 *   GET  /_count           how many sends were taken
 *   GET  /_dump            a line for each: number, due (µs), arrival (µs), phone number id, chat
 *   GET  /_reset           forget them
 *   GET  /_delay?ms=NN     answer sends NN milliseconds after they arrive, from now on
 *
 * Number and due time are those that the load generator writes at the end of a text: "n=<number> t=<µs>".
 * It leaves out what the real API does beyond that; the simulator in services/sandbox is for behaviour, this is for speed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_SOCKETS = 65536, REQUEST_MAX = 65536, SOON_MS = 1 };

struct connection {
    char *input;
    size_t length;
    uint32_t generation; /* a delayed answer must not go to a later connection with the same descriptor */
};

struct arrival {
    long long number, due, at, phone_number_id, chat;
};

struct answer { /* one that waits for its delay */
    int64_t due;
    int socket;
    uint32_t generation;
    long long serial, chat;
};

struct request { /* points into the connection's input; text ends at the blank line, body has its own length */
    char *head, *body;
    size_t head_length, body_length;
};

static struct connection connections[MAX_SOCKETS];
static struct arrival *arrivals;
static size_t arrival_count, arrival_room;
static struct answer *answers; /* a queue: the delay is the same for all, so they fall due in order */
static size_t answer_first, answer_end, answer_room;
static int64_t delay_us;
static long long serial, born;

static int64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static void *grow(void *items, size_t *room, size_t size) {
    *room = *room ? *room * 2 : 16384;
    items = realloc(items, *room * size);
    if (!items) abort();
    return items;
}

/* ---- answering ---- */

static void send_all(int socket, const char *data, size_t length) {
    while (length) {
        ssize_t done = send(socket, data, length, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN) return;
        if (done < 0) {
            struct pollfd writable = {.fd = socket, .events = POLLOUT};
            poll(&writable, 1, -1);
            continue;
        }
        data += done;
        length -= done;
    }
}

static void reply(int socket, const char *status, const char *body, size_t length) {
    char small[1024];
    int head = snprintf(small, sizeof small,
        "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", status, length);
    bool fits = head + length <= sizeof small;
    if (fits) memcpy(small + head, body, length); /* one packet for the usual answer */
    send_all(socket, small, fits ? head + length : (size_t)head);
    if (!fits) send_all(socket, body, length);
}

static void reply_text(int socket, const char *status, const char *body) { reply(socket, status, body, strlen(body)); }

static void reply_sent(int socket, long long number, long long chat) {
    char body[256];
    snprintf(body, sizeof body,
        "{\"messaging_product\":\"whatsapp\",\"contacts\":[{\"input\":\"+%lld\",\"wa_id\":\"%lld\"}],"
        "\"messages\":[{\"id\":\"wamid.%llx.%llu\"}]}", chat, chat, born, number);
    reply_text(socket, "200 OK", body);
}

static void reply_later(int socket, long long chat) {
    if (answer_end == answer_room) answers = grow(answers, &answer_room, sizeof *answers);
    answers[answer_end++] = (struct answer){now_us() + delay_us, socket, connections[socket].generation, ++serial, chat};
}

static void reply_what_is_due(void) {
    int64_t now = now_us();
    for (; answer_first < answer_end && answers[answer_first].due <= now; answer_first++) {
        struct answer *answer = &answers[answer_first];
        if (connections[answer->socket].generation == answer->generation)
            reply_sent(answer->socket, answer->serial, answer->chat);
    }
    if (answer_first == answer_end) answer_first = answer_end = 0;
}

/* ---- understanding ---- */

/* The number that follows `mark` in the text, skipping quotes, blanks and a plus; -1 where there is none. */
static long long number_after(const char *text, size_t length, const char *mark) {
    const char *at = memmem(text, length, mark, strlen(mark));
    if (!at) return -1;
    at += strlen(mark);
    at += strspn(at, " \":+");
    return *at >= '0' && *at <= '9' ? strtoll(at, NULL, 10) : -1;
}

static bool authorised(const struct request *request, long long phone_number_id) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "Bearer token-%lld\r\n", phone_number_id);
    return memmem(request->head, request->head_length, wanted, strlen(wanted)) != NULL;
}

static void take(int socket, const struct request *request) {
    const char *path = memchr(request->head + 6, '/', request->head_length - 6); /* past "POST /<version>" */
    long long phone_number_id = path ? strtoll(path + 1, NULL, 10) : -1;
    if (!authorised(request, phone_number_id)) {
        reply_text(socket, "401 Unauthorized",
            "{\"error\":{\"message\":\"The benchmark's token is token-<phone number id>\",\"code\":190}}");
        return;
    }
    if (arrival_count == arrival_room) arrivals = grow(arrivals, &arrival_room, sizeof *arrivals);
    long long chat = number_after(request->body, request->body_length, "\"to\"");
    arrivals[arrival_count++] = (struct arrival){
        number_after(request->body, request->body_length, " n="),
        number_after(request->body, request->body_length, " t="), now_us(), phone_number_id, chat};
    if (delay_us) reply_later(socket, chat);
    else reply_sent(socket, ++serial, chat);
}

static void dump(int socket) {
    char *text = malloc(arrival_count * 96 + 1);
    size_t length = 0;
    for (size_t i = 0; i < arrival_count; i++) {
        struct arrival *one = &arrivals[i];
        length += sprintf(text + length, "%lld %lld %lld %lld %lld\n", one->number, one->due, one->at,
                          one->phone_number_id, one->chat);
    }
    reply(socket, "200 OK", text, length);
    free(text);
}

static void count_sends(int socket) {
    char text[32];
    snprintf(text, sizeof text, "%zu", arrival_count);
    reply_text(socket, "200 OK", text);
}

static void forget(int socket) {
    arrival_count = 0;
    reply_text(socket, "200 OK", "{}");
}

static void set_delay(int socket, const char *milliseconds) {
    delay_us = atof(milliseconds) * 1000;
    reply_text(socket, "200 OK", "{}");
}

static bool asks(const struct request *request, const char *start) {
    return !strncmp(request->head, start, strlen(start));
}

static void handle(int socket, const struct request *request) {
    if (asks(request, "POST /")) take(socket, request);
    else if (asks(request, "GET /_count")) count_sends(socket);
    else if (asks(request, "GET /_dump")) dump(socket);
    else if (asks(request, "GET /_reset")) forget(socket);
    else if (asks(request, "GET /_delay?ms=")) set_delay(socket, request->head + strlen("GET /_delay?ms="));
    else reply_text(socket, "404 Not Found", "{}");
}

/* Bytes of the first whole request in the input, which it fills in; 0 while it is not all there. */
static size_t cut_request(char *input, size_t length, struct request *request) {
    char *end = memmem(input, length, "\r\n\r\n", 4);
    if (!end) return 0;
    *end = 0; /* keep the search for the length inside the head */
    char *field = strcasestr(input, "\r\ncontent-length:");
    size_t body = field ? strtoul(field + 17, NULL, 10) : 0;
    *end = '\r';
    size_t head = end + 4 - input;
    *request = (struct request){.head = input, .body = input + head, .head_length = head, .body_length = body};
    return length < head + body ? 0 : head + body;
}

/* ---- sockets ---- */

static void hang_up(int socket) {
    connections[socket].generation++;
    connections[socket].length = 0;
    close(socket);
}

static void receive(int socket) {
    struct connection *connection = &connections[socket];
    struct request request;
    ssize_t got = recv(socket, connection->input + connection->length, REQUEST_MAX - connection->length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        hang_up(socket);
        return;
    }
    connection->length += got;
    connection->input[connection->length] = 0;
    size_t used = 0, size;
    while ((size = cut_request(connection->input + used, connection->length - used, &request))) {
        handle(socket, &request);
        used += size;
    }
    connection->length -= used;
    memmove(connection->input, connection->input + used, connection->length);
}

static void welcome(int epoll, int listener) {
    int socket, on = 1;
    while ((socket = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        if (socket >= MAX_SOCKETS) abort();
        setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (!connections[socket].input) connections[socket].input = malloc(REQUEST_MAX + 1);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = socket};
        epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event);
    }
}

static int listen_on(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        perror("graphmock");
        exit(1);
    }
    return listener;
}

static int wait_ms(void) {
    if (answer_first == answer_end) return -1;
    int64_t left = answers[answer_first].due - now_us();
    return left <= 0 ? 0 : (int)(left / 1000) + SOON_MS;
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: graphmock PORT\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    born = now_us();
    int listener = listen_on(atoi(arguments[1])), epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, wait_ms());
        for (int i = 0; i < ready; i++) {
            if (events[i].data.fd == listener) welcome(epoll, listener);
            else receive(events[i].data.fd);
        }
        reply_what_is_due();
    }
}
