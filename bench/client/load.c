
/*
 * Sends events to a webhook endpoint, over connections that are kept:
 *
 *     load [options] PORT PATH TEMPLATE...
 *
 *     -c N   connections, 1 by default
 *     -d S   seconds
 *     -n N   events; without it as many as S allows
 *     -r N   events a second.  Without it, each connection sends its next
 *            event as soon as the last one is answered.
 *     -f N   number of the first call
 *
 * The templates are the events of one call, in turn; the next round of them is
 * another call.  Each answer has to be 200 and {"status":"ok"}: a duplicate
 * would have been less work, so it counts as an error.
 *
 * With -r, an event is due at a time, whether or not the one before is
 * answered, and its latency counts from then: a server that stalls has all
 * that became due in between on its account.  Without, it counts from the
 * sending.
 *
 * wrk would have to build each body in Lua, which for 1 MiB costs more than
 * what is measured, and it knows no rate.
 */


#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench.h"


#define LOAD_MAX_EVENTS   512
#define LOAD_BUFFER       4096

/* what is answered no more within that time is an error */
#define LOAD_TIMEOUT      ((uint64_t) 30 * 1000000000)


typedef struct {
    int                fd;
    unsigned           busy;
    unsigned           writable;            /* EPOLLOUT is asked for */

    bench_template_t  *request;
    char               digits[BENCH_DIGITS];
    size_t             sent;
    uint64_t           since;

    char               in[LOAD_BUFFER];
    size_t             nin;
} load_conn_t;


typedef struct {
    struct sockaddr_in  addr;
    int                 epoll;

    load_conn_t        *conns;
    size_t              nconns;
    load_conn_t       **idle;
    size_t              nidle;

    bench_template_t   *requests;
    size_t              nrequests;

    uint64_t            first;
    uint64_t            events;             /* 0: no limit */
    uint64_t            rate;               /* 0: as fast as it goes */

    uint64_t            started;
    uint64_t            end;
    uint64_t            sent;
    uint64_t            errors;
    bench_latencies_t   latencies;
} load_t;


static void load_options(load_t *l, int argc, char **argv);
static void load_request(bench_template_t *request, const char *path,
    bench_template_t *body);
static void load_open(load_t *l, load_conn_t *c);
static void load_watch(load_t *l, load_conn_t *c, int op, unsigned writable);
static void load_run(load_t *l);
static void load_due(load_t *l);
static int load_wait(load_t *l, struct epoll_event *events);
static int load_more(load_t *l);
static void load_send(load_t *l, load_conn_t *c, uint64_t since);
static void load_write(load_t *l, load_conn_t *c);
static void load_read(load_t *l, load_conn_t *c);
static int load_answer(load_conn_t *c, int *ok, int *closes);
static void load_failed(load_t *l, load_conn_t *c, const char *why);


int
main(int argc, char **argv)
{
    size_t  n;
    load_t  l;

    memset(&l, 0, sizeof(load_t));

    load_options(&l, argc, argv);

    /* a rate is of no use if the kernel wakes us up 50 us late */
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);

    l.epoll = epoll_create1(0);

    if (l.epoll == -1) {
        bench_die("epoll_create1");
    }

    l.conns = bench_alloc(l.nconns * sizeof(load_conn_t));
    l.idle = bench_alloc(l.nconns * sizeof(load_conn_t *));

    for (n = 0; n < l.nconns; n++) {
        load_open(&l, &l.conns[n]);
        l.idle[l.nidle++] = &l.conns[n];
    }

    load_run(&l);

    return l.errors ? 1 : 0;
}


static void
load_options(load_t *l, int argc, char **argv)
{
    int                n, option;
    double             seconds;
    bench_template_t   body;

    l->nconns = 1;
    seconds = 3600;

    while ((option = getopt(argc, argv, "c:d:n:r:f:")) != -1) {

        switch (option) {
        case 'c':
            l->nconns = strtoul(optarg, NULL, 10);
            break;
        case 'd':
            seconds = strtod(optarg, NULL);
            break;
        case 'n':
            l->events = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            l->rate = strtoull(optarg, NULL, 10);
            break;
        case 'f':
            l->first = strtoull(optarg, NULL, 10);
            break;
        default:
            exit(2);
        }
    }

    if (argc - optind < 3) {
        fprintf(stderr, "usage: load [options] PORT PATH TEMPLATE...\n");
        exit(2);
    }

    l->end = (uint64_t) (seconds * 1e9);

    l->addr.sin_family = AF_INET;
    l->addr.sin_port = htons((uint16_t) strtoul(argv[optind], NULL, 10));
    l->addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);

    l->nrequests = argc - optind - 2;
    l->requests = bench_alloc(l->nrequests * sizeof(bench_template_t));

    for (n = 0; n < (int) l->nrequests; n++) {
        bench_read_template(&body, argv[optind + 2 + n]);
        load_request(&l->requests[n], argv[optind + 1], &body);
        free(body.data);
    }
}


static void
load_request(bench_template_t *request, const char *path,
    bench_template_t *body)
{
    int  len;

    request->data = bench_alloc(body->len + strlen(path) + 256);

    len = sprintf(request->data,
                  "POST %s HTTP/1.1\r\n"
                  "Host: 127.0.0.1\r\n"
                  "Content-Type: application/json\r\n"
                  "Content-Length: %zu\r\n"
                  "\r\n",
                  path, body->len);

    memcpy(request->data + len, body->data, body->len);
    request->len = len + body->len;

    bench_find_rooms(request);

    if (request->ndigits != 1) {
        fprintf(stderr, "a template must contain \"%s\" once\n", BENCH_ROOM);
        exit(2);
    }
}


static void
load_open(load_t *l, load_conn_t *c)
{
    int  one = 1;

    c->fd = socket(AF_INET, SOCK_STREAM, 0);

    /* a connection is set up by the kernel alone, so it can be waited for */

    if (c->fd == -1
        || connect(c->fd, (struct sockaddr *) &l->addr, sizeof(l->addr)) != 0
        || setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) != 0)
    {
        bench_die("connect");
    }

    c->busy = 0;
    c->nin = 0;

    load_watch(l, c, EPOLL_CTL_ADD, 0);
}


static void
load_watch(load_t *l, load_conn_t *c, int op, unsigned writable)
{
    struct epoll_event  event;

    event.events = EPOLLIN | (writable ? EPOLLOUT : 0);
    event.data.ptr = c;

    if (epoll_ctl(l->epoll, op, c->fd, &event) != 0) {
        bench_die("epoll_ctl");
    }

    c->writable = writable;
}


static void
load_run(load_t *l)
{
    int                 n, i;
    uint64_t            progress;
    load_conn_t        *c;
    struct epoll_event  events[LOAD_MAX_EVENTS];

    l->started = bench_now();
    l->end += l->started;
    progress = l->started;

    for ( ;; ) {
        load_due(l);

        if (l->nidle == l->nconns && !load_more(l)) {
            break;
        }

        n = load_wait(l, events);

        if (n > 0) {
            progress = bench_now();

        } else if (l->nidle < l->nconns
                   && bench_now() - progress > LOAD_TIMEOUT)
        {
            l->errors += l->nconns - l->nidle;
            fprintf(stderr, "no further answer\n");
            break;
        }

        for (i = 0; i < n; i++) {
            c = events[i].data.ptr;

            if (events[i].events & EPOLLOUT) {
                load_write(l, c);
            }

            if (events[i].events & ~EPOLLOUT) {
                load_read(l, c);
            }
        }
    }

    bench_report(&l->latencies, l->errors, bench_now() - l->started);
}


/*
 * Sends what is due, as far as there are connections that wait for nothing.
 */

static void
load_due(load_t *l)
{
    uint64_t  now, since;

    while (l->nidle && load_more(l)) {
        now = bench_now();
        since = now;

        if (l->rate) {
            since = l->started + l->sent * 1000000000 / l->rate;

            if (since > now) {
                return;
            }
        }

        load_send(l, l->idle[--l->nidle], since);
    }
}


static int
load_more(load_t *l)
{
    if (l->errors || (l->events && l->sent >= l->events)) {
        return 0;
    }

    /* what became due before the end is sent, however late */

    if (l->rate) {
        return l->started + l->sent * 1000000000 / l->rate < l->end;
    }

    return bench_now() < l->end;
}


static int
load_wait(load_t *l, struct epoll_event *events)
{
    int              n;
    uint64_t         now, due;
    struct timespec  timeout;

    timeout.tv_sec = 1;
    timeout.tv_nsec = 0;

    if (l->rate && l->nidle && load_more(l)) {
        now = bench_now();
        due = l->started + l->sent * 1000000000 / l->rate;
        due = (due > now) ? due - now : 0;
        timeout.tv_sec = due / 1000000000;
        timeout.tv_nsec = due % 1000000000;
    }

    n = epoll_pwait2(l->epoll, events, LOAD_MAX_EVENTS, &timeout, NULL);

    if (n == -1 && errno != EINTR) {
        bench_die("epoll_pwait2");
    }

    return n;
}


static void
load_send(load_t *l, load_conn_t *c, uint64_t since)
{
    c->request = &l->requests[l->sent % l->nrequests];
    bench_number(c->digits, l->first + l->sent / l->nrequests);

    c->busy = 1;
    c->sent = 0;
    c->since = since;
    l->sent++;

    load_write(l, c);
}


static void
load_write(load_t *l, load_conn_t *c)
{
    int            n;
    size_t         skip, digits;
    ssize_t        written;
    struct iovec   parts[3];
    struct msghdr  message;

    if (!c->busy) {
        return;
    }

    digits = c->request->digits[0];

    parts[0].iov_base = c->request->data;
    parts[0].iov_len = digits;
    parts[1].iov_base = c->digits;
    parts[1].iov_len = BENCH_DIGITS;
    parts[2].iov_base = c->request->data + digits + BENCH_DIGITS;
    parts[2].iov_len = c->request->len - digits - BENCH_DIGITS;

    skip = c->sent;

    for (n = 0; n < 3; n++) {
        digits = (skip < parts[n].iov_len) ? skip : parts[n].iov_len;
        parts[n].iov_base = (char *) parts[n].iov_base + digits;
        parts[n].iov_len -= digits;
        skip -= digits;
    }

    memset(&message, 0, sizeof(message));
    message.msg_iov = parts;
    message.msg_iovlen = 3;

    do {
        written = sendmsg(c->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (written == -1 && errno == EINTR);

    if (written == -1 && errno != EAGAIN) {
        load_failed(l, c, "the server closed the connection");
        return;
    }

    if (written > 0) {
        c->sent += written;
    }

    if ((c->sent < c->request->len) != c->writable) {
        load_watch(l, c, EPOLL_CTL_MOD, !c->writable);
    }
}


static void
load_read(load_t *l, load_conn_t *c)
{
    int       ok, closes;
    ssize_t   n;
    uint64_t  now;

    n = recv(c->fd, c->in + c->nin, LOAD_BUFFER - c->nin, MSG_DONTWAIT);

    if (n == -1 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }

    if (n <= 0) {

        if (!c->busy) {
            /* a server may close what is idle */
            close(c->fd);
            load_open(l, c);
            return;
        }

        load_failed(l, c, "the server closed the connection");
        return;
    }

    c->nin += n;

    if (!load_answer(c, &ok, &closes)) {
        return;
    }

    if (!ok || !c->busy || c->sent < c->request->len) {
        c->in[c->nin < LOAD_BUFFER ? c->nin : LOAD_BUFFER - 1] = '\0';
        load_failed(l, c, c->in);
        return;
    }

    now = bench_now();
    bench_latency(&l->latencies, now - c->since);

    c->busy = 0;
    c->nin = 0;

    if (closes) {
        close(c->fd);
        load_open(l, c);
    }

    l->idle[l->nidle++] = c;
}


/*
 * Whether there is a whole answer, and whether it is the one that is wanted.
 */

static int
load_answer(load_conn_t *c, int *ok, int *closes)
{
    char               *p, *end, *body;
    size_t              len;
    static const char   good[] = "{\"status\":\"ok\"}";

    body = memmem(c->in, c->nin, "\r\n\r\n", 4);

    if (body == NULL) {
        *ok = 0;
        return c->nin == LOAD_BUFFER;
    }

    body += 4;
    len = 0;
    *closes = 0;

    for (p = c->in; p < body; p = end + 2) {
        end = memmem(p, body - p, "\r\n", 2);

        if (strncasecmp(p, "content-length:", 15) == 0) {
            len = strtoul(p + 15, NULL, 10);

        } else if (strncasecmp(p, "connection: close", 17) == 0) {
            *closes = 1;
        }
    }

    if ((size_t) (c->in + c->nin - body) < len) {
        *ok = 0;
        return c->nin == LOAD_BUFFER;
    }

    *ok = strncmp(c->in, "HTTP/1.1 200 ", 13) == 0
          && (size_t) (c->in + c->nin - body) == len
          && (len == sizeof(good) - 1
              || (len == sizeof(good) && body[len - 1] == '\n'))
          && memcmp(body, good, sizeof(good) - 1) == 0;

    return 1;
}


/*
 * One error ends all: the run doesn't count any more.
 */

static void
load_failed(load_t *l, load_conn_t *c, const char *why)
{
    if (l->errors++ == 0) {
        fprintf(stderr, "%s\n", why);
    }

    close(c->fd);

    if (c->busy) {
        c->busy = 0;
        l->idle[l->nidle++] = c;
    }
}
