
/*
 * Subscribes and throws away what comes:
 *
 *     subscribers SOCKET NUMBER CHANNEL
 *
 * Runs until it is killed, or Redis closes a connection.
 */


#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <hiredis/hiredis.h>

#include "bench.h"


#define SUBSCRIBERS_MAX_EVENTS  64


static void subscribers_watch(int epoll, int fd);


int
main(int argc, char **argv)
{
    int                 epoll, n, i;
    size_t              number;
    ssize_t             size;
    redisReply         *reply;
    redisContext       *redis;
    static char         buf[256 * 1024];
    struct epoll_event  events[SUBSCRIBERS_MAX_EVENTS];

    if (argc != 4) {
        fprintf(stderr, "usage: subscribers SOCKET NUMBER CHANNEL\n");
        return 2;
    }

    epoll = epoll_create1(0);

    if (epoll == -1) {
        bench_die("epoll_create1");
    }

    for (number = strtoul(argv[2], NULL, 10); number; number--) {
        redis = redisConnectUnix(argv[1]);

        if (redis == NULL || redis->err) {
            bench_die(argv[1]);
        }

        reply = redisCommand(redis, "SUBSCRIBE %s", argv[3]);

        if (reply == NULL || reply->type != REDIS_REPLY_ARRAY) {
            bench_die("SUBSCRIBE");
        }

        freeReplyObject(reply);

        /* hiredis isn't asked any more: it would parse each message */
        subscribers_watch(epoll, redis->fd);
    }

    for ( ;; ) {
        n = epoll_wait(epoll, events, SUBSCRIBERS_MAX_EVENTS, -1);

        if (n == -1 && errno != EINTR) {
            bench_die("epoll_wait");
        }

        for (i = 0; i < n; i++) {
            size = read(events[i].data.fd, buf, sizeof(buf));

            if (size > 0 || (size == -1 && errno == EINTR)) {
                continue;
            }

            fprintf(stderr, "Redis closed the connection of a subscriber\n");
            return 1;
        }
    }
}


static void
subscribers_watch(int epoll, int fd)
{
    struct epoll_event  event;

    memset(&event, 0, sizeof(event));
    event.events = EPOLLIN;
    event.data.fd = fd;

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        bench_die("epoll_ctl");
    }
}
