/* The benchmark's load: POST /api/v2/messages/text/<company>/<chat> over kept-alive connections, one thread, epoll.
 *
 *   loadgen PORT CONNECTIONS COUNT RATE SECONDS FIRST
 *
 * RATE 0 is a closed loop: every connection sends its next request when the last one is answered. Otherwise
 * requests are due RATE times a second whatever the answers do, and their latency counts from when they were due.
 * It ends after COUNT answers or SECONDS seconds, whichever comes first, and prints one line of JSON.
 *
 * Messages are numbered from FIRST. Number n goes from company 1 + n % 20 to chat n % 1000, so that a chat belongs
 * to one company; its text ends in "n=<number> t=<microseconds since the epoch when it was due>".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { COMPANIES = 20, CHATS = 1000, REPLY_MAX = 16384, IDLE_MS = 200 };

struct connection {
    int socket;
    bool busy;     /* a request is out and its answer has not come */
    int64_t due;   /* when that request was due, microseconds */
    size_t length; /* bytes of the answer so far */
    char reply[REPLY_MAX + 1];
};

struct plan {
    int port, connections;
    int64_t count, first;
    double rate, seconds;
};

static struct plan plan;
static struct connection *connections;
static int epoll;
static int64_t started, sent, accepted, refused, broken, reconnected;
static int64_t *latencies; /* of the accepted ones, microseconds */

static int64_t now_us(void) {
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return time.tv_sec * 1000000LL + time.tv_nsec / 1000;
}

static int64_t answered(void) { return accepted + refused + broken; }

static void fail(const char *what) {
    perror(what);
    exit(2);
}

static void dial(struct connection *connection) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(plan.port)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(connection->socket, (struct sockaddr *)&address, sizeof address)) fail("loadgen: connect");
    setsockopt(connection->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(connection->socket, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    epoll_ctl(epoll, EPOLL_CTL_ADD, connection->socket, &event);
    connection->busy = false;
    connection->length = 0;
}

static void redial(struct connection *connection) {
    close(connection->socket);
    reconnected++;
    dial(connection);
}

static void post(struct connection *connection, int64_t due) {
    char body[256], request[1024];
    long long number = plan.first + sent;
    int company = 1 + number % COMPANIES;
    int body_length = snprintf(body, sizeof body,
        "{\"message\":\"Good morning, your parcel is on its way n=%lld t=%lld\",\"phoneIndex\":0}",
        number, (long long)due);
    int length = snprintf(request, sizeof request,
        "POST /api/v2/messages/text/%04d/1555%07lld HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n"
        "X-Api-Key: key-company-%04d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
        company, number % CHATS, plan.port, company, body_length, body);
    connection->busy = true;
    connection->due = due;
    sent++;
    if (send(connection->socket, request, length, MSG_NOSIGNAL) != length) {
        broken++;
        redial(connection);
    }
}

/* Bytes of the whole answer once its head is there, else 0. Both sides answer with a Content-Length. */
static size_t reply_size(const struct connection *connection) {
    const char *end = strstr(connection->reply, "\r\n\r\n");
    if (!end) return 0;
    const char *field = strcasestr(connection->reply, "\r\ncontent-length:");
    size_t head = end + 4 - connection->reply;
    return head + (field && field < end ? strtoul(field + 17, NULL, 10) : 0);
}

static void count_reply(struct connection *connection) {
    connection->busy = false;
    connection->length = 0;
    if (!strncmp(connection->reply + 9, "202", 3)) {
        latencies[accepted++] = now_us() - connection->due;
        return;
    }
    if (refused++ == 0) fprintf(stderr, "loadgen: refused: %.300s\n", connection->reply);
}

static void lose(struct connection *connection) {
    if (connection->busy) broken++;
    redial(connection);
}

static void receive(struct connection *connection) {
    ssize_t got = recv(connection->socket, connection->reply + connection->length,
                       REPLY_MAX - connection->length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        lose(connection);
        return;
    }
    connection->length += got;
    connection->reply[connection->length] = 0;
    size_t size = reply_size(connection);
    if (!size || connection->length < size) return;
    bool closes = strcasestr(connection->reply, "connection: close") != NULL;
    count_reply(connection);
    if (closes) redial(connection);
}

static struct connection *free_connection(void) {
    static int next;
    for (int tried = 0; tried < plan.connections; tried++) {
        struct connection *connection = &connections[next];
        next = (next + 1) % plan.connections;
        if (!connection->busy) return connection;
    }
    return NULL;
}

static int64_t due_at(int64_t index) { return started + (int64_t)(index * 1e6 / plan.rate); }

static void post_what_is_due(void) {
    struct connection *connection;
    while (sent < plan.count && (plan.rate == 0 || due_at(sent) <= now_us()) && (connection = free_connection()))
        post(connection, plan.rate == 0 ? now_us() : due_at(sent));
}

static int wait_ms(void) {
    if (plan.rate == 0 || sent >= plan.count) return IDLE_MS;
    int64_t left = due_at(sent) - now_us();
    if (left <= 0) return free_connection() ? 0 : IDLE_MS;
    return left / 1000 < IDLE_MS ? (int)(left / 1000) : IDLE_MS;
}

static void run(void) {
    struct epoll_event events[64];
    int64_t end = started + (int64_t)(plan.seconds * 1e6);
    while (answered() < plan.count && now_us() < end) {
        post_what_is_due();
        int ready = epoll_wait(epoll, events, 64, wait_ms());
        for (int i = 0; i < ready; i++) receive(events[i].data.ptr);
    }
}

static int ascending(const void *left, const void *right) {
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

static double latency_ms(double share) {
    return accepted ? latencies[(int64_t)((accepted - 1) * share)] / 1e3 : 0;
}

static void report(void) {
    int64_t ended = now_us();
    qsort(latencies, accepted, sizeof *latencies, ascending);
    printf("{\"sent\": %lld, \"accepted\": %lld, \"refused\": %lld, \"broken\": %lld, \"reconnected\": %lld, "
           "\"started_us\": %lld, \"ended_us\": %lld, \"p50_ms\": %.3f, \"p99_ms\": %.3f}\n",
           (long long)sent, (long long)accepted, (long long)refused, (long long)broken, (long long)reconnected,
           (long long)started, (long long)ended, latency_ms(0.5), latency_ms(0.99));
}

int main(int count, char **arguments) {
    if (count != 7) {
        fprintf(stderr, "usage: loadgen PORT CONNECTIONS COUNT RATE SECONDS FIRST\n");
        return 2;
    }
    plan = (struct plan){.port = atoi(arguments[1]), .connections = atoi(arguments[2]),
                         .count = atoll(arguments[3]), .rate = atof(arguments[4]),
                         .seconds = atof(arguments[5]), .first = atoll(arguments[6])};
    connections = calloc(plan.connections, sizeof *connections);
    latencies = calloc(plan.count + 1, sizeof *latencies);
    epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < plan.connections; i++) dial(&connections[i]);
    started = now_us();
    run();
    report();
    return 0;
}
