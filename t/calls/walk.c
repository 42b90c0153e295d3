
/*
 * Applies the deliveries of a call in every order, with their times of receipt
 * as they are: walks the graph of the states, for t/calls/permutations.t.
 *
 *     walk SOCKET < paths
 *
 * A path is "path <name>", for each delivery "<received_at> <id or -> <body>",
 * and "end", a line each.  A state is the set of deliveries that were applied,
 * and the whole hash.  In each state each delivery that is missing is applied,
 * and each that is not is applied again.
 *
 * Prints for each path "path <name> <states> <applications>", for each end of
 * it "end <hash as a JSON object>", and for what must not be "wrong <what>".
 * What differs between equal states only in its order, the bodies in "_state"
 * and "_transfers", tells states apart, but not ends.
 *
 * The index follows from the hash: it is looked at in each state, and is no
 * part of it.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include <hiredis/hiredis.h>

#include "vaani_body.h"
#include "vaani_transition.h"


#define VAANI_WALK_DELIVERIES  14
#define VAANI_WALK_BATCH       256
#define VAANI_WALK_DIGEST      22
#define VAANI_WALK_FIELDS      128

/* where the bodies stand in "_state", and what each of them takes there */

#define VAANI_WALK_BODIES      18
#define VAANI_WALK_BODY        9


typedef struct {
    char                *command;       /* EVALSHA, as RESP */
    int                  len;
} walk_delivery_t;


/* a hash as one string: fields and values, each with its length before it */

typedef struct {
    unsigned             set;
    size_t               len;
    char                *hash;
    size_t               next;          /* in the table, + 1 */
} walk_state_t;


typedef struct {
    walk_state_t        *states;
    size_t               nstates;
    size_t               nalloc;
    size_t              *table;
    size_t               ntable;
} walk_states_t;


static void walk_load(redisContext *redis, const vaani_str_t *script,
    char *sha);
static void walk_path(redisContext *redis, const char *name,
    walk_delivery_t *deliveries, unsigned n);
static void walk_deliver(redisContext *redis, walk_delivery_t *delivery,
    char *line, const char *sha);
static void walk_args(walk_delivery_t *delivery, const vaani_event_t *event,
    vaani_delivery_t *what, const char *sha);
static void walk_restore(redisContext *redis, const walk_state_t *state);
static char *walk_read(redisContext *redis, size_t *len);
static void walk_print(const walk_state_t *state);
static int walk_same_end(const walk_state_t *one, const walk_state_t *two);
static int walk_same_known(const vaani_str_t *one, const vaani_str_t *two);
static size_t walk_fields(const walk_state_t *state, vaani_str_t *fields);
static int walk_cmp(const void *one, const void *two);
static size_t walk_add(walk_states_t *all, unsigned set, char *hash,
    size_t len);
static void *walk_alloc(void *ctx, size_t size);
static redisReply *walk_reply(redisContext *redis);
static void walk_die(const char *what);


/* the keys of the path's call and of the index; ARGV: the fields of the hash */

static const vaani_str_t  walk_restore_script = vaani_string(
    "redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])\n"
    "if ARGV[1] then\n"
    "    redis.call('HSET', KEYS[1], unpack(ARGV))\n"
    "    local call = redis.call('HMGET', KEYS[1], 'created_at',\n"
    "                            'updated_at', 'outcome', 'room_name')\n"
    "    redis.call('ZADD', KEYS[3], call[2], call[4])\n"
    "    if not call[3] then\n"
    "        redis.call('ZADD', KEYS[2], call[1], call[4])\n"
    "    end\n"
    "end\n");

static const vaani_str_t  walk_read_script = vaani_string(
    "local call = redis.call('HMGET', KEYS[1], 'created_at', 'updated_at',\n"
    "                        'outcome', 'room_name')\n"
    "if (redis.call('ZSCORE', KEYS[2], call[4]) or false)\n"
    "   ~= (not call[3] and call[1])\n"
    "then\n"
    "    return redis.error_reply('active is not what the hash says')\n"
    "end\n"
    "if redis.call('ZSCORE', KEYS[3], call[4]) ~= call[2] then\n"
    "    return redis.error_reply('calls is not what the hash says')\n"
    "end\n"
    "if redis.call('ZCARD', KEYS[3]) ~= 1 then\n"
    "    return redis.error_reply('calls has another room')\n"
    "end\n"
    "return redis.call('HGETALL', KEYS[1])\n");

static char        walk_restore_sha[64], walk_read_sha[64];

static const char  walk_key[] = "vaani:call:";
static const char  walk_active[] = "vaani:active";
static const char  walk_calls[] = "vaani:calls";

/* of the path: the key, with the name of its room */

static char        walk_room[sizeof(walk_key) + VAANI_ROOM_MAX_LEN];


int
main(int argc, char **argv)
{
    char             *line, name[256], sha[64];
    size_t            size;
    unsigned          n;
    redisContext     *redis;
    walk_delivery_t   deliveries[VAANI_WALK_DELIVERIES];

    if (argc != 2) {
        walk_die("usage: walk SOCKET");
    }

    redis = redisConnectUnix(argv[1]);

    if (redis == NULL || redis->err) {
        walk_die("cannot connect");
    }

    walk_load(redis, &vaani_transition_script, sha);
    walk_load(redis, &walk_restore_script, walk_restore_sha);
    walk_load(redis, &walk_read_script, walk_read_sha);

    line = NULL;
    size = 0;
    n = 0;
    name[0] = '\0';

    while (getline(&line, &size, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';

        if (strncmp(line, "path ", 5) == 0) {
            snprintf(name, sizeof(name), "%s", line + 5);
            n = 0;
            continue;
        }

        if (strcmp(line, "end") == 0) {
            walk_path(redis, name, deliveries, n);

            while (n) {
                redisFreeCommand(deliveries[--n].command);
            }

            continue;
        }

        if (n == VAANI_WALK_DELIVERIES) {
            walk_die("too many deliveries");
        }

        walk_deliver(redis, &deliveries[n++], line, sha);
    }

    free(line);
    redisFree(redis);

    return 0;
}


static void
walk_load(redisContext *redis, const vaani_str_t *script, char *sha)
{
    redisReply  *reply;

    reply = redisCommand(redis, "SCRIPT LOAD %b", script->data, script->len);

    if (reply == NULL || reply->type != REDIS_REPLY_STRING
        || reply->len >= 64)
    {
        walk_die("cannot load a script");
    }

    memcpy(sha, reply->str, reply->len + 1);
    freeReplyObject(reply);
}


static void
walk_deliver(redisContext *redis, walk_delivery_t *delivery, char *line,
    const char *sha)
{
    char                 *received_at, *id, *body, digest[64];
    redisReply           *reply;
    vaani_str_t           text;
    vaani_body_t          read;
    vaani_part_t          part;
    vaani_alloc_t         alloc;
    vaani_event_t         event;
    vaani_delivery_t      what;
    vaani_event_error_t   error;

    received_at = strtok(line, " ");
    id = strtok(NULL, " ");
    body = strtok(NULL, "");

    if (received_at == NULL || id == NULL || body == NULL) {
        walk_die("a line is not one of a delivery");
    }

    alloc.alloc = walk_alloc;
    alloc.ctx = NULL;

    text.data = (u_char *) body;
    text.len = strlen(body);

    memset(&what, 0, sizeof(vaani_delivery_t));

    if (vaani_body_read(&read, &text, 0, &alloc, &error) != VAANI_OK
        || vaani_body_next(&read, &event, &part, &error) != VAANI_OK)
    {
        walk_die("a body is none of an event");
    }

    /* Redis makes digests, too */

    reply = redisCommand(redis, "EVAL %s 0 %b",
                         "return redis.sha1hex(ARGV[1])", text.data, text.len);

    if (reply == NULL || reply->type != REDIS_REPLY_STRING) {
        walk_die("no digest");
    }

    snprintf(digest, sizeof(digest), "%.22s", reply->str);
    freeReplyObject(reply);

    snprintf(walk_room, sizeof(walk_room), "%s%.*s", walk_key,
             (int) event.room.len, (const char *) event.room.data);

    what.key.data = (u_char *) walk_room;
    what.key.len = strlen(walk_room);
    what.index = 1;
    what.received_at = strtoull(received_at, NULL, 10);
    what.applied_at = what.received_at;
    what.payload = part.payload;
    what.digest.data = (u_char *) digest;
    what.digest.len = VAANI_WALK_DIGEST;
    what.message = what.digest;

    if (strcmp(id, "-") != 0) {
        what.id.data = (u_char *) id;
        what.id.len = strlen(id);
    }

    walk_args(delivery, &event, &what, sha);
}


static void
walk_args(walk_delivery_t *delivery, const vaani_event_t *event,
    vaani_delivery_t *what, const char *sha)
{
    int             argc;
    size_t          n, nargs, lens[VAANI_WALK_FIELDS];
    const char     *argv[VAANI_WALK_FIELDS];
    vaani_str_t    *args;
    vaani_alloc_t   alloc;

    alloc.alloc = walk_alloc;
    alloc.ctx = NULL;

    if (vaani_transition_args(event, what, &alloc, &args, &nargs) != VAANI_OK
        || nargs + 2 > VAANI_WALK_FIELDS)
    {
        walk_die("no arguments");
    }

    argv[0] = "EVALSHA";
    argv[1] = sha;
    lens[0] = strlen(argv[0]);
    lens[1] = strlen(argv[1]);

    for (n = 0; n < nargs; n++) {
        argv[n + 2] = (const char *) args[n].data;
        lens[n + 2] = args[n].len;
    }

    argc = nargs + 2;

    delivery->len = redisFormatCommandArgv(&delivery->command, argc, argv,
                                           lens);

    if (delivery->len < 0) {
        walk_die("no memory");
    }
}


static void
walk_path(redisContext *redis, const char *name, walk_delivery_t *deliveries,
    unsigned n)
{
    char           *hash;
    size_t          i, from, done, len, added, applied;
    unsigned        x, set, all;
    long long       second;
    redisReply     *reply;
    walk_state_t   *state;
    walk_states_t   states;

    if (n == 0) {
        walk_die("a path of no deliveries");
    }

    memset(&states, 0, sizeof(walk_states_t));

    states.ntable = 1 << 20;
    states.table = calloc(states.ntable, sizeof(size_t));

    if (states.table == NULL) {
        walk_die("no memory");
    }

    (void) walk_add(&states, 0, NULL, 0);

    all = (1U << n) - 1;
    applied = 0;

    /* states are added behind those that are walked through */

    for (from = 0; from < states.nstates; from = done) {
        done = from + VAANI_WALK_BATCH / n + 1;

        if (done > states.nstates) {
            done = states.nstates;
        }

        for (i = from; i < done; i++) {
            for (x = 0; x < n; x++) {
                walk_restore(redis, &states.states[i]);
                redisAppendFormattedCommand(redis, deliveries[x].command,
                                            deliveries[x].len);
                redisAppendCommand(redis, "EVALSHA %s 3 %s %s %s",
                                   walk_read_sha, walk_room, walk_active,
                                   walk_calls);
                redisAppendFormattedCommand(redis, deliveries[x].command,
                                            deliveries[x].len);
                redisAppendCommand(redis, "EVALSHA %s 3 %s %s %s",
                                   walk_read_sha, walk_room, walk_active,
                                   walk_calls);
            }
        }

        for (i = from; i < done; i++) {
            for (x = 0; x < n; x++) {
                state = &states.states[i];
                set = state->set;

                freeReplyObject(walk_reply(redis));

                reply = walk_reply(redis);

                if (reply->type != REDIS_REPLY_INTEGER) {
                    printf("wrong %s: delivery %u in set %x: %s\n", name, x,
                           set, reply->str ? reply->str : "no number");
                    exit(1);
                }

                second = reply->integer;
                freeReplyObject(reply);
                hash = walk_read(redis, &len);
                applied++;

                if ((set >> x) & 1
                    && (second != 0 || len != state->len
                        || memcmp(hash, state->hash, len) != 0))
                {
                    printf("wrong %s: delivery %u again in set %x: %lld\n",
                           name, x, set, second);
                }

                added = walk_add(&states, set | 1U << x, hash, len);

                reply = walk_reply(redis);
                second = reply->integer;
                freeReplyObject(reply);
                hash = walk_read(redis, &len);
                applied++;

                state = &states.states[added];

                if (second != 0 || len != state->len
                    || memcmp(hash, state->hash, len) != 0)
                {
                    printf("wrong %s: delivery %u twice in set %x\n", name, x,
                           set);
                }

                free(hash);
            }
        }
    }

    printf("path %s %zu %zu\n", name, states.nstates, applied);

    for (i = 0; i < states.nstates; i++) {

        if (states.states[i].set != all) {
            continue;
        }

        for (from = 0; from < i; from++) {
            if (states.states[from].set == all
                && walk_same_end(&states.states[from], &states.states[i]))
            {
                break;
            }
        }

        if (from == i) {
            walk_print(&states.states[i]);
        }
    }

    for (i = 0; i < states.nstates; i++) {
        free(states.states[i].hash);
    }

    free(states.states);
    free(states.table);
}


static void
walk_restore(redisContext *redis, const walk_state_t *state)
{
    size_t        n, nfields, lens[VAANI_WALK_FIELDS + 6];
    const char   *argv[VAANI_WALK_FIELDS + 6];
    vaani_str_t   fields[VAANI_WALK_FIELDS];

    nfields = walk_fields(state, fields);

    argv[0] = "EVALSHA";
    argv[1] = walk_restore_sha;
    argv[2] = "3";
    argv[3] = walk_room;
    argv[4] = walk_active;
    argv[5] = walk_calls;

    for (n = 0; n < 6; n++) {
        lens[n] = strlen(argv[n]);
    }

    for (n = 0; n < nfields; n++) {
        argv[n + 6] = (const char *) fields[n].data;
        lens[n + 6] = fields[n].len;
    }

    redisAppendCommandArgv(redis, nfields + 6, argv, lens);
}


/*
 * The hash that was read, its fields sorted; the caller frees it.
 */

static char *
walk_read(redisContext *redis, size_t *len)
{
    char         *hash, *p;
    size_t        n, nfields;
    redisReply   *reply;
    vaani_str_t   fields[VAANI_WALK_FIELDS];

    reply = walk_reply(redis);

    if (reply->type != REDIS_REPLY_ARRAY) {
        printf("wrong index: %s\n", reply->str ? reply->str : "no hash");
        exit(1);
    }

    nfields = reply->elements;

    if (nfields > VAANI_WALK_FIELDS) {
        walk_die("too many fields");
    }

    *len = 0;

    for (n = 0; n < nfields; n++) {
        fields[n].data = (u_char *) reply->element[n]->str;
        fields[n].len = reply->element[n]->len;
        *len += sizeof(size_t) + fields[n].len;
    }

    qsort(fields, nfields / 2, 2 * sizeof(vaani_str_t), walk_cmp);

    hash = malloc(*len + 1);

    if (hash == NULL) {
        walk_die("no memory");
    }

    for (n = 0, p = hash; n < nfields; n++) {
        memcpy(p, &fields[n].len, sizeof(size_t));
        memcpy(p + sizeof(size_t), fields[n].data, fields[n].len);
        p += sizeof(size_t) + fields[n].len;
    }

    freeReplyObject(reply);

    return hash;
}


static size_t
walk_fields(const walk_state_t *state, vaani_str_t *fields)
{
    size_t       n;
    const char  *p;

    for (n = 0, p = state->hash; p < state->hash + state->len; n++) {
        memcpy(&fields[n].len, p, sizeof(size_t));
        fields[n].data = (const u_char *) p + sizeof(size_t);
        p += sizeof(size_t) + fields[n].len;
    }

    return n;
}


static int
walk_cmp(const void *one, const void *two)
{
    int                 rc;
    size_t              len;
    const vaani_str_t  *first, *second;

    first = one;
    second = two;

    len = first->len < second->len ? first->len : second->len;
    rc = memcmp(first->data, second->data, len);

    return rc ? rc : (first->len > second->len) - (first->len < second->len);
}


/*
 * Whether users see the same, and the module's own state is the same but for
 * the order of what it remembers.
 */

static int
walk_same_end(const walk_state_t *one, const walk_state_t *two)
{
    size_t        n, nfields;
    vaani_str_t   first[VAANI_WALK_FIELDS], second[VAANI_WALK_FIELDS];

    static const vaani_str_t  state = vaani_string("_state");
    static const vaani_str_t  duration = vaani_string("_ms");

    nfields = walk_fields(one, first);

    if (nfields != walk_fields(two, second)) {
        return 0;
    }

    for (n = 0; n < nfields; n += 2) {

        if (!vaani_str_eq(&first[n], &second[n])) {
            return 0;
        }

        if (vaani_str_eq(&first[n], &state)) {

            if (!walk_same_known(&first[n + 1], &second[n + 1])) {
                return 0;
            }

            continue;
        }

        if (first[n].data[0] == '_' && !vaani_str_eq(&first[n], &duration)) {
            continue;
        }

        if (!vaani_str_eq(&first[n + 1], &second[n + 1])) {
            return 0;
        }
    }

    return 1;
}


/*
 * The same of two "_state", whatever the order of the bodies of an event; none
 * of them is there twice.
 */

static int
walk_same_known(const vaani_str_t *one, const vaani_str_t *two)
{
    size_t  i, n;

    if (one->len != two->len || one->len < VAANI_WALK_BODIES
        || (one->len - VAANI_WALK_BODIES) % VAANI_WALK_BODY
        || memcmp(one->data, two->data, VAANI_WALK_BODIES) != 0)
    {
        return 0;
    }

    for (n = VAANI_WALK_BODIES; n < one->len; n += VAANI_WALK_BODY) {

        for (i = VAANI_WALK_BODIES; i < two->len; i += VAANI_WALK_BODY) {
            if (memcmp(one->data + n, two->data + i, VAANI_WALK_BODY) == 0) {
                break;
            }
        }

        if (i >= two->len) {
            return 0;
        }
    }

    return 1;
}


static void
walk_print(const walk_state_t *state)
{
    u_char       *p;
    size_t        n, i, nfields, len;
    vaani_str_t   fields[VAANI_WALK_FIELDS];

    nfields = walk_fields(state, fields);

    printf("end {");

    for (n = 0; n < nfields; n++) {
        len = vaani_json_escaped_len(&fields[n]);
        p = malloc(len + 1);

        if (p == NULL) {
            walk_die("no memory");
        }

        len = vaani_json_escape(p, &fields[n]) - p;

        printf("%s\"", n == 0 ? "" : n % 2 ? ":" : ",");

        for (i = 0; i < len; i++) {
            putchar(p[i]);
        }

        putchar('"');
        free(p);
    }

    printf("}\n");
}


/*
 * The number of a state, which is added if it is new; the hash is owned by the
 * states then, else freed.
 */

static size_t
walk_add(walk_states_t *all, unsigned set, char *hash, size_t len)
{
    size_t         n, slot;
    uint64_t       digest;
    walk_state_t  *state;

    digest = 0xcbf29ce484222325 ^ set;

    for (n = 0; n < len; n++) {
        digest = (digest ^ (u_char) hash[n]) * 0x100000001b3;
    }

    slot = (digest ^ digest >> 32) & (all->ntable - 1);

    for (n = all->table[slot]; n; n = all->states[n - 1].next) {
        state = &all->states[n - 1];

        if (state->set == set && state->len == len
            && memcmp(state->hash, hash, len) == 0)
        {
            free(hash);
            return n - 1;
        }
    }

    if (all->nstates == all->nalloc) {
        all->nalloc = all->nalloc ? 2 * all->nalloc : 1024;
        all->states = realloc(all->states,
                              all->nalloc * sizeof(walk_state_t));

        if (all->states == NULL) {
            walk_die("no memory");
        }

        memset(&all->states[all->nstates], 0,
               (all->nalloc - all->nstates) * sizeof(walk_state_t));
    }

    state = &all->states[all->nstates++];

    state->set = set;
    state->len = len;
    state->hash = hash;
    state->next = all->table[slot];

    all->table[slot] = all->nstates;

    return all->nstates - 1;
}


static void *
walk_alloc(void *ctx, size_t size)
{
    (void) ctx;

    return malloc(size);
}


static redisReply *
walk_reply(redisContext *redis)
{
    void  *reply;

    if (redisGetReply(redis, &reply) != REDIS_OK || reply == NULL) {
        walk_die("the connection failed");
    }

    return reply;
}


static void
walk_die(const char *what)
{
    fprintf(stderr, "walk: %s\n", what);
    exit(2);
}
