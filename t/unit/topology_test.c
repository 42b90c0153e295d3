
/*
 * Replies of Redis Cluster and Sentinel, as their versions write them, and
 * invalid ones.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_reply.h"
#include "vaani_test.h"
#include "../redis/vaani_master.h"
#include "../redis/vaani_topology.h"


#define TEST_ID_A  "07c37dfeb235213a872192d90877d0cd55635b91"
#define TEST_ID_B  "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca"

#define TEST_S10   "0123456789"
#define TEST_S50   TEST_S10 TEST_S10 TEST_S10 TEST_S10 TEST_S10
#define TEST_S255  TEST_S50 TEST_S50 TEST_S50 TEST_S50 TEST_S50 "01234"


/* the linker replaces realloc() by it, see t/Makefile.inc */

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);

static redisReply *reply_of(const char *notation);
static int read_topology(vaani_topology_t *t, const char *notation,
    const char **why);
static void good_topology(vaani_topology_t *t, const char *notation);
static void check_node(const vaani_topology_t *t, unsigned n, const char *id,
    const char *host, unsigned port, unsigned master_index, unsigned nslots);
static void check_slots(const vaani_topology_t *t, unsigned first,
    unsigned last, unsigned index);
static void check_empty(const vaani_topology_t *t);
static char *many_nodes(unsigned nnodes);


static int  test_realloc_fails;


void *
__wrap_realloc(void *p, size_t size)
{
    return test_realloc_fails ? NULL : __real_realloc(p, size);
}


static redisReply *
reply_of(const char *notation)
{
    redisReply  *reply;

    reply = vaani_reply_make(notation, strlen(notation));
    vaani_test_that(reply != NULL, "no reply: %s", notation);

    return reply;
}


/*
 * Nothing may point into the reply, so it is freed first.
 */

static int
read_topology(vaani_topology_t *t, const char *notation, const char **why)
{
    int          rc;
    redisReply  *reply;

    /* the previous content does not matter */

    memset(t, 0x5a, sizeof(vaani_topology_t));
    *why = NULL;

    reply = reply_of(notation);
    rc = vaani_topology_read(t, reply, "asked", why);
    freeReplyObject(reply);

    return rc;
}


static void
good_topology(vaani_topology_t *t, const char *notation)
{
    int          rc;
    const char  *why;

    rc = read_topology(t, notation, &why);
    vaani_test_that(rc == VAANI_OK, "%s: %s", notation, why);
}


static void
check_node(const vaani_topology_t *t, unsigned n, const char *id,
    const char *host, unsigned port, unsigned master_index, unsigned nslots)
{
    vaani_topology_node_t  *node;

    assert_true(n < t->nnodes);
    node = &t->nodes[n];

    assert_string_equal(node->id, id);
    assert_string_equal(node->host, host);
    assert_int_equal(node->port, port);
    assert_int_equal(node->master_index, master_index);
    assert_int_equal(node->master, master_index == n);
    assert_int_equal(node->nslots, nslots);
}


static void
check_slots(const vaani_topology_t *t, unsigned first, unsigned last,
    unsigned index)
{
    unsigned  slot;

    for (slot = first; slot <= last; slot++) {
        vaani_test_that(t->slots[slot] == index, "slot %u: %u", slot,
                        t->slots[slot]);
    }
}


static void
check_empty(const vaani_topology_t *t)
{
    assert_null(t->nodes);
    assert_int_equal(t->nnodes, 0);
    check_slots(t, 0, VAANI_SLOTS - 1, VAANI_TOPOLOGY_NONE);
}


static void
test_versions(void **state)
{
    size_t            n;
    vaani_topology_t  t;

    static const struct {
        const char  *notation;
        const char  *id[2];
    } rows[] = {

        /* Redis 3.0 */

        { "[[0 5460 ['127.0.0.1' 7000] ['127.0.0.1' 7003]]]", { "", "" } },

        /* 4.0 */

        { "[[0 5460 ['127.0.0.1' 7000 '" TEST_ID_A "']"
                  " ['127.0.0.1' 7003 '" TEST_ID_B "']]]",
          { TEST_ID_A, TEST_ID_B } },

        /* 7.0 */

        { "[[0 5460 ['127.0.0.1' 7000 '" TEST_ID_A "' []]"
                  " ['127.0.0.1' 7003 '" TEST_ID_B "' ['hostname' 'h']]]]",
          { TEST_ID_A, TEST_ID_B } },

        /* a future version */

        { "[[0 5460 ['127.0.0.1' 7000 '" TEST_ID_A "' [] 'x' nil]"
                  " ['127.0.0.1' 7003 '" TEST_ID_B "' ['x' ['y'] 'z'] 5]]]",
          { TEST_ID_A, TEST_ID_B } }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        good_topology(&t, rows[n].notation);

        assert_int_equal(t.nnodes, 2);
        check_node(&t, 0, rows[n].id[0], "127.0.0.1", 7000, 0, 5461);
        check_node(&t, 1, rows[n].id[1], "127.0.0.1", 7003, 0, 0);
        check_slots(&t, 0, 5460, 0);
        check_slots(&t, 5461, VAANI_SLOTS - 1, VAANI_TOPOLOGY_NONE);

        vaani_topology_free(&t);
        check_empty(&t);

        vaani_topology_free(&t);
        check_empty(&t);
    }
}


static void
test_ranges(void **state)
{
    vaani_topology_t  t;

    (void) state;

    good_topology(&t, "[]");
    check_empty(&t);

    memset(&t, 0, sizeof(vaani_topology_t));
    vaani_topology_free(&t);
    check_empty(&t);

    /* all of it, one slot, the last one */

    good_topology(&t, "[[0 16383 ['a' 1]]]");
    check_slots(&t, 0, 16383, 0);
    check_node(&t, 0, "", "a", 1, 0, 16384);
    vaani_topology_free(&t);

    good_topology(&t, "[[16383 16383 ['a' 65535]] [0 0 ['b' 2]]]");
    check_slots(&t, 0, 0, 1);
    check_slots(&t, 1, 16382, VAANI_TOPOLOGY_NONE);
    check_slots(&t, 16383, 16383, 0);
    vaani_topology_free(&t);

    /* several ranges of one master, whose replicas are listed again */

    good_topology(&t, "[[10 19 ['a' 1 'A'] ['c' 3 'C']]"
                      " [20 29 ['b' 2 'B'] ['d' 4 'D'] ['e' 5 'E']]"
                      " [0 4 ['a' 1 'A'] ['c' 3 'C']]"
                      " [30 30 ['a' 1 'A'] ['c' 3 'C']]]");
    assert_int_equal(t.nnodes, 5);
    check_node(&t, 0, "A", "a", 1, 0, 16);
    check_node(&t, 1, "C", "c", 3, 0, 0);
    check_node(&t, 2, "B", "b", 2, 2, 10);
    check_node(&t, 3, "D", "d", 4, 2, 0);
    check_node(&t, 4, "E", "e", 5, 2, 0);
    check_slots(&t, 0, 4, 0);
    check_slots(&t, 5, 9, VAANI_TOPOLOGY_NONE);
    check_slots(&t, 10, 19, 0);
    check_slots(&t, 20, 29, 2);
    check_slots(&t, 30, 30, 0);
    check_slots(&t, 31, 16383, VAANI_TOPOLOGY_NONE);
    vaani_topology_free(&t);

    /* of overlapping ones, the first one counts */

    good_topology(&t, "[[10 20 ['a' 1]] [0 15 ['b' 2]] [10 20 ['c' 3]]]");
    check_slots(&t, 0, 9, 1);
    check_slots(&t, 10, 20, 0);
    check_node(&t, 0, "", "a", 1, 0, 11);
    check_node(&t, 1, "", "b", 2, 1, 10);
    check_node(&t, 2, "", "c", 3, 2, 0);
    vaani_topology_free(&t);
}


static void
test_roles_of_nodes(void **state)
{
    vaani_topology_t  t;

    (void) state;

    /* a master that is a replica elsewhere is a master, in any order */

    good_topology(&t, "[[0 0 ['a' 1] ['b' 2]] [1 1 ['b' 2] ['a' 1]]]");
    assert_int_equal(t.nnodes, 2);
    check_node(&t, 0, "", "a", 1, 0, 1);
    check_node(&t, 1, "", "b", 2, 1, 1);
    vaani_topology_free(&t);

    /* its own replica */

    good_topology(&t, "[[0 0 ['a' 1] ['a' 1]]]");
    assert_int_equal(t.nnodes, 1);
    check_node(&t, 0, "", "a", 1, 0, 1);
    vaani_topology_free(&t);

    /* a replica of two masters, one of which has no known address */

    good_topology(&t, "[[0 0 ['?' 1] ['b' 2]] [1 1 ['c' 3] ['b' 2]]"
                      " [2 2 ['d' 4] ['b' 2]]]");
    assert_int_equal(t.nnodes, 3);
    check_node(&t, 0, "", "b", 2, 1, 0);
    check_node(&t, 1, "", "c", 3, 1, 1);
    check_node(&t, 2, "", "d", 4, 2, 1);
    vaani_topology_free(&t);

    /* a replica without a master of known address */

    good_topology(&t, "[[0 0 ['?' 1] ['b' 2]]]");
    assert_int_equal(t.nnodes, 1);
    check_node(&t, 0, "", "b", 2, VAANI_TOPOLOGY_NONE, 0);
    check_slots(&t, 0, 0, VAANI_TOPOLOGY_NONE);
    vaani_topology_free(&t);
}


static void
test_same_nodes(void **state)
{
    vaani_topology_t  t;

    (void) state;

    /* the id identifies the node, and the first address counts */

    good_topology(&t, "[[0 0 ['a' 1 'A']] [1 1 ['b' 2 'A']]]");
    assert_int_equal(t.nnodes, 1);
    check_node(&t, 0, "A", "a", 1, 0, 2);
    vaani_topology_free(&t);

    good_topology(&t, "[[0 0 ['a' 1 'A']] [1 1 ['a' 1 'B']]]");
    assert_int_equal(t.nnodes, 2);
    vaani_topology_free(&t);

    /* or the host and the port, if an id is missing */

    good_topology(&t, "[[0 0 ['a' 1]] [1 1 ['a' 2]] [2 2 ['b' 1]]"
                      " [3 3 ['a' 1]] [4 4 ['a' 2 'A']] [5 5 ['b' 1 '']]]");
    assert_int_equal(t.nnodes, 3);
    check_node(&t, 0, "", "a", 1, 0, 2);
    check_node(&t, 1, "", "a", 2, 1, 2);
    check_node(&t, 2, "", "b", 1, 2, 2);
    vaani_topology_free(&t);
}


static void
test_hosts(void **state)
{
    size_t            n;
    vaani_topology_t  t;

    /* NULL: the node is skipped */

    static const struct {
        const char  *node;
        const char  *host;
    } rows[] = {
        { "['10.0.0.1' 7000]", "10.0.0.1" },
        { "['node.example' 7000]", "node.example" },
        { "['::1' 7000]", "::1" },
        { "['[::1]' 7000]", "::1" },
        { "['fe80::1%eth0' 7000]", "fe80::1%eth0" },
        { "['[' 7000]", "[" },
        { "['[a' 7000]", "[a" },
        { "['" TEST_S255 "' 7000]", TEST_S255 },
        { "['[" TEST_S255 "]' 7000]", TEST_S255 },
        { "['' 7000]", "asked" },
        { "[nil 7000]", "asked" },
        { "[nil 7000 'A' ['ip' '10.0.0.1']]", "asked" },
        { "['10.0.0.1' 7000 'A' ['hostname' 'h']]", "10.0.0.1" },
        { "['?' 7000 'A' ['hostname' 'h']]", "h" },
        { "['?' 7000 'A' ['ip' '10.0.0.1']]", "10.0.0.1" },
        { "['?' 7000 'A' ['ip' '10.0.0.1' 'hostname' 'h']]", "h" },
        { "['?' 7000 'A' ['ip' '[::1]' 'hostname' '']]", "::1" },
        { "['?' 7000 'A' ['ip' '::1' 'hostname' '?']]", "::1" },
        { "['?' 7000 'A' ['ip' '::1' 'hostname' nil]]", "::1" },
        { "['?' 7000 'A' ['port' 5 5 'x' 'ip' '::1' 'hostname']]", "::1" },
        { "['?' 7000 'A' ['ip' '::1' 'ip' 'second']]", "::1" },
        { "['?' 7000 'A' ['hostname']]", NULL },
        { "['?' 7000 'A' ['ip' '' 'ip' '::1']]", NULL },
        { "['?' 7000 'A' ['ipx' '::1' 'i' '::1' 'xp' '::1']]", NULL },
        { "['?' 7000 'A' []]", NULL },
        { "['?' 7000 'A']", NULL },
        { "['?' 7000]", NULL },
        { "['' 0]", NULL },
        { "['' 0 'A' []]", NULL },
        { "['10.0.0.1' 0]", NULL },
        { "[nil 0]", NULL }
    };

    char  notation[1024];

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        sprintf(notation, "[[0 9 %s]]", rows[n].node);
        good_topology(&t, notation);

        vaani_test_that(t.nnodes == (rows[n].host ? 1 : 0), "%s: %u nodes",
                        notation, t.nnodes);

        if (rows[n].host) {
            vaani_test_that(strcmp(t.nodes[0].host, rows[n].host) == 0,
                            "%s: %s", notation, t.nodes[0].host);
            check_slots(&t, 0, 9, 0);

        } else {
            check_slots(&t, 0, 9, VAANI_TOPOLOGY_NONE);
        }

        vaani_topology_free(&t);
    }
}


static void
test_asked_host(void **state)
{
    size_t             n;
    redisReply        *reply;
    const char        *why;
    vaani_topology_t   t;

    static const struct {
        const char  *asked;
        const char  *host;
    } rows[] = {
        { "10.0.0.1", "10.0.0.1" },
        { "[::1]", "::1" },
        { TEST_S255, TEST_S255 },
        { "", NULL }
    };

    (void) state;

    reply = reply_of("[[0 9 ['' 7000]]]");

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        assert_int_equal(vaani_topology_read(&t, reply, rows[n].asked, &why),
                         VAANI_OK);
        assert_int_equal(t.nnodes, rows[n].host ? 1 : 0);

        if (rows[n].host) {
            check_node(&t, 0, "", rows[n].host, 7000, 0, 10);
        }

        vaani_topology_free(&t);
    }

    assert_int_equal(vaani_topology_read(&t, reply, TEST_S255 "x", &why),
                     VAANI_ERROR);
    assert_string_equal(why, "a node has an invalid host");
    check_empty(&t);

    freeReplyObject(reply);
}


static void
test_bad_topologies(void **state)
{
    int               rc;
    size_t            n;
    const char       *why;
    vaani_topology_t  t;

    static const char  range[] = "a range is not an array of 2 slots and 1 or "
                                 "more nodes";
    static const char  slots[] = "a range has invalid slots";
    static const char  node[] = "a node is not an array of a host and a port";
    static const char  port[] = "a node has an invalid port";
    static const char  id[] = "a node has an invalid id";
    static const char  host[] = "a node has an invalid host";
    static const char  type[] = "the host of a node is not a string";
    static const char  metadata[] = "the metadata of a node is not an array";

    const struct {
        const char  *notation;
        const char  *why;
    } rows[] = {
        { "'x'", "the reply is not an array" },
        { "5", "the reply is not an array" },
        { "nil", "the reply is not an array" },
        { "nilarray", "the reply is not an array" },
        { "-ERR", "the reply is not an array" },
        { "+OK", "the reply is not an array" },
        { "[5]", range },
        { "['x']", range },
        { "[nil]", range },
        { "[[]]", range },
        { "[[0]]", range },
        { "[[0 1]]", range },
        { "[[-1 1 ['a' 1]]]", slots },
        { "[[0 16384 ['a' 1]]]", slots },
        { "[[16384 16384 ['a' 1]]]", slots },
        { "[[0 -1 ['a' 1]]]", slots },
        { "[[2 1 ['a' 1]]]", slots },
        { "[[4294967296 4294967297 ['a' 1]]]", slots },
        { "[['0' 1 ['a' 1]]]", slots },
        { "[[0 '1' ['a' 1]]]", slots },
        { "[[nil 1 ['a' 1]]]", slots },
        { "[[['a' 1] 0 1]]", slots },
        { "[[0 1 'a']]", node },
        { "[[0 1 5]]", node },
        { "[[0 1 nil]]", node },
        { "[[0 1 []]]", node },
        { "[[0 1 ['a']]]", node },
        { "[[0 1 ['a' 1] 5]]", node },
        { "[[0 1 ['a' 1] ['b']]]", node },
        { "[[0 1 ['a' -1]]]", port },
        { "[[0 1 ['a' 65536]]]", port },
        { "[[0 1 ['a' 4294967297]]]", port },
        { "[[0 1 ['a' '1']]]", port },
        { "[[0 1 ['a' nil]]]", port },
        { "[[0 1 ['a' 1] ['b' 65536]]]", port },
        { "[[0 1 ['?' 65536]]]", port },
        { "[[0 1 ['a' 1 5]]]", id },
        { "[[0 1 ['a' 1 nil]]]", id },
        { "[[0 1 ['a' 1 []]]]", id },
        { "[[0 1 ['a' 1 '" TEST_ID_A "x']]]", id },
        { "[[0 1 ['a' 1 'x y']]]", id },
        { "[[0 1 ['?' 1 5]]]", id },
        { "[[0 1 ['a' 1 'A' 'x']]]", metadata },
        { "[[0 1 ['a' 1 'A' nil]]]", metadata },
        { "[[0 1 ['a' 1 'A' 5]]]", metadata },
        { "[[0 1 [5 1]]]", type },
        { "[[0 1 [[] 1]]]", type },
        { "[[0 1 [+a 1]]]", type },
        { "[[0 1 [-ERR 1]]]", type },
        { "[[0 1 ['a b' 1]]]", host },
        { "[[0 1 ['a\n' 1]]]", host },
        { "[[0 1 ['a\x7f' 1]]]", host },
        { "[[0 1 ['\xc3\xa9' 1]]]", host },
        { "[[0 1 ['[]' 1]]]", host },
        { "[[0 1 ['" TEST_S255 "x' 1]]]", host },
        { "[[0 1 ['[" TEST_S255 "x]' 1]]]", host },
        { "[[0 1 ['?' 1 'A' ['ip' 'a b']]]]", host },
        { "[[0 1 ['?' 1 'A' ['ip' '" TEST_S255 "x']]]]", host },

        /* after good ones */

        { "[[0 1 ['a' 1]] [2 3 ['b' 2]] [4 5]]", range },
        { "[[0 1 ['a' 1] ['b' 2] ['c' 0] ['d']]]", node }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        rc = read_topology(&t, rows[n].notation, &why);

        vaani_test_that(rc == VAANI_ERROR, "%s: rc %d", rows[n].notation, rc);
        vaani_test_that(strcmp(why, rows[n].why) == 0, "%s: %s",
                        rows[n].notation, why);
        check_empty(&t);
    }
}


/*
 * Bytes that do not occur in the notation.
 */

static void
test_null_bytes(void **state)
{
    size_t            n;
    redisReply       *reply;
    const char       *why;
    vaani_topology_t  t;

    static const vaani_str_t  rows[] = {
        vaani_string("*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$3\r\na\0b\r\n:1\r\n"),
        vaani_string("*1\r\n*3\r\n:0\r\n:1\r\n*3\r\n$1\r\na\r\n:1\r\n"
                     "$3\r\na\0b\r\n")
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        reply = vaani_reply_read((const char *) rows[n].data, rows[n].len);
        assert_non_null(reply);

        assert_int_equal(vaani_topology_read(&t, reply, "asked", &why),
                         VAANI_ERROR);
        check_empty(&t);

        freeReplyObject(reply);
    }
}


static char *
many_nodes(unsigned nnodes)
{
    char      *p, *notation;
    unsigned   n;

    notation = vaani_test_malloc(nnodes * 32 + 64);
    p = notation + sprintf(notation, "[[0 1");

    for (n = 0; n < nnodes; n++) {
        p += sprintf(p, " ['a' %u]", n + 1);
    }

    sprintf(p, "]]");

    return notation;
}


static void
test_many_nodes(void **state)
{
    int               rc;
    char             *notation;
    unsigned          n;
    const char       *why;
    vaani_topology_t  t;

    (void) state;

    notation = many_nodes(VAANI_TOPOLOGY_MAX_NODES);
    good_topology(&t, notation);
    assert_int_equal(t.nnodes, VAANI_TOPOLOGY_MAX_NODES);

    for (n = 0; n < t.nnodes; n++) {
        check_node(&t, n, "", "a", n + 1, 0, n == 0 ? 2 : 0);
    }

    vaani_topology_free(&t);
    free(notation);

    notation = many_nodes(VAANI_TOPOLOGY_MAX_NODES + 1);
    rc = read_topology(&t, notation, &why);
    assert_int_equal(rc, VAANI_ERROR);
    assert_string_equal(why, "there are too many nodes");
    check_empty(&t);
    free(notation);
}


/*
 * The same range or node, again and again: seconds of work for a few MB.
 */

static char *
repeated(const char *begin, const char *text, unsigned n, const char *end)
{
    char  *p, *notation;

    notation = vaani_test_malloc(strlen(begin) + n * strlen(text)
                                 + strlen(end) + 1);

    for (p = notation + sprintf(notation, "%s", begin); n; n--) {
        p += sprintf(p, "%s", text);
    }

    (void) sprintf(p, "%s", end);

    return notation;
}


static void
test_repetitions(void **state)
{
    int               rc;
    char             *nodes, *begin, *notation;
    const char       *why;
    vaani_topology_t  t;

    (void) state;

    notation = repeated("[", "[0 16383 ['a' 1]]", 8, "]");
    good_topology(&t, notation);
    vaani_topology_free(&t);
    free(notation);

    notation = repeated("[", "[0 16383 ['a' 1]]", 9, "]");
    rc = read_topology(&t, notation, &why);
    assert_int_equal(rc, VAANI_ERROR);
    assert_string_equal(why, "there are too many ranges");
    check_empty(&t);
    free(notation);

    nodes = many_nodes(VAANI_TOPOLOGY_MAX_NODES);
    begin = vaani_test_malloc(strlen(nodes) + 2);
    (void) sprintf(begin, "%.*s", (int) strlen(nodes) - 2, nodes);

    notation = repeated(begin, " ['a' 1024]", 70000, "]]");
    rc = read_topology(&t, notation, &why);
    assert_int_equal(rc, VAANI_ERROR);
    assert_string_equal(why, "nodes are listed too often");
    check_empty(&t);

    free(notation);
    free(begin);
    free(nodes);
}


static void
test_no_memory(void **state)
{
    int               rc;
    const char       *why;
    vaani_topology_t  t;

    (void) state;

    test_realloc_fails = 1;
    rc = read_topology(&t, "[[0 1 ['a' 1]]]", &why);
    test_realloc_fails = 0;

    assert_int_equal(rc, VAANI_NOMEM);
    assert_string_equal(why, "out of memory");
    check_empty(&t);
}


static void
test_redirects(void **state)
{
    int                 rc;
    size_t              n, len;
    vaani_redirect_t    r;
    vaani_test_arena_t  arena;

    static const struct {
        const char        *text;
        vaani_redirect_e   kind;
        unsigned           slot;
        const char        *host;
        unsigned           port;
        unsigned           unknown;
    } rows[] = {
        { "MOVED 3999 127.0.0.1:6381", VAANI_REDIRECT_MOVED, 3999,
          "127.0.0.1", 6381, 0 },
        { "ASK 3999 127.0.0.1:6381", VAANI_REDIRECT_ASK, 3999,
          "127.0.0.1", 6381, 0 },
        { "MOVED 0 a:1", VAANI_REDIRECT_MOVED, 0, "a", 1, 0 },
        { "MOVED 16383 a:65535", VAANI_REDIRECT_MOVED, 16383, "a", 65535, 0 },
        { "MOVED 1 ::1:6379", VAANI_REDIRECT_MOVED, 1, "::1", 6379, 0 },
        { "MOVED 1 [::1]:6379", VAANI_REDIRECT_MOVED, 1, "::1", 6379, 0 },
        { "MOVED 1 :::6379", VAANI_REDIRECT_MOVED, 1, "::", 6379, 0 },
        { "ASK 1 node-1.example:6379", VAANI_REDIRECT_ASK, 1,
          "node-1.example", 6379, 0 },
        { "MOVED 1 :6381", VAANI_REDIRECT_MOVED, 1, "", 6381, 0 },
        { "ASK 1 ?:6381", VAANI_REDIRECT_ASK, 1, "", 6381, 1 },
        { "MOVED 1 " TEST_S255 ":1", VAANI_REDIRECT_MOVED, 1, TEST_S255, 1, 0 }
    };

    static const char  *bad[] = {
        "",
        " ",
        "MOVED",
        "MOVED ",
        "MOVED 3999",
        "MOVED 3999 ",
        "MOVED 3999 127.0.0.1",
        "MOVED 3999 127.0.0.1:",
        "MOVED 3999 :",
        "MOVED 3999 127.0.0.1:0",
        "MOVED 3999 127.0.0.1:00001",
        "MOVED 3999 127.0.0.1:65536",
        "MOVED 3999 127.0.0.1:123456",
        "MOVED 3999 127.0.0.1:4294967297",
        "MOVED 3999 127.0.0.1:-1",
        "MOVED 3999 127.0.0.1:638x",
        "MOVED 3999 127.0.0.1:+638",
        "MOVED 3999 127.0.0.1:6381 ",
        "MOVED 3999 127.0.0.1:6381\r\n",
        "MOVED 3999 127.0.0.1:6381 x",
        "MOVED 3999  127.0.0.1:6381",
        "MOVED  3999 127.0.0.1:6381",
        " MOVED 3999 127.0.0.1:6381",
        "MOVED 16384 127.0.0.1:6381",
        "MOVED 99999 127.0.0.1:6381",
        "MOVED -1 127.0.0.1:6381",
        "MOVED 03999 127.0.0.1:6381",
        "MOVED x 127.0.0.1:6381",
        "MOVED 3999 []:6381",
        "MOVED 3999 a\tb:6381",
        "MOVED 3999 " TEST_S255 "x:6381",
        "moved 3999 127.0.0.1:6381",
        "MOVEDX 3999 127.0.0.1:6381",
        "MOVE 3999 127.0.0.1:6381",
        "ASKED 3999 127.0.0.1:6381",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "CLUSTERDOWN The cluster is down",
        "ERR unknown command"
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        vaani_test_arena_init(&arena);

        memset(&r, 0x5a, sizeof(vaani_redirect_t));
        len = strlen(rows[n].text);
        rc = vaani_redirect_read((const char *)
                                 vaani_test_text(&arena, rows[n].text, len),
                                 len, &r);

        vaani_test_that(rc == VAANI_OK, "%s", rows[n].text);
        assert_int_equal(r.kind, rows[n].kind);
        assert_int_equal(r.slot, rows[n].slot);
        assert_string_equal(r.host, rows[n].host);
        assert_int_equal(r.port, rows[n].port);
        assert_int_equal(r.unknown, rows[n].unknown);

        vaani_test_arena_free(&arena);
    }

    for (n = 0; n < vaani_test_nelems(bad); n++) {
        vaani_test_arena_init(&arena);

        len = strlen(bad[n]);
        rc = vaani_redirect_read((const char *)
                                 vaani_test_text(&arena, bad[n], len),
                                 len, &r);

        vaani_test_that(rc == VAANI_ERROR, "%s", bad[n]);

        vaani_test_arena_free(&arena);
    }

    assert_int_equal(vaani_redirect_read("MOVED 1 a\0b:1", 13, &r),
                     VAANI_ERROR);
}


static void
test_roles(void **state)
{
    int            rc;
    size_t         n;
    redisReply    *reply;
    vaani_role_t   role;

    static const struct {
        const char    *notation;
        vaani_role_e   kind;
        const char    *host;
        unsigned       port;
        unsigned       link_up;
    } rows[] = {
        { "['master' 3129659 [['127.0.0.1' '9001' '3129242']]]",
          VAANI_ROLE_MASTER, "", 0, 0 },
        { "['master']", VAANI_ROLE_MASTER, "", 0, 0 },
        { "['slave' '127.0.0.1' 9000 'connected' 3167038]",
          VAANI_ROLE_REPLICA, "127.0.0.1", 9000, 1 },
        { "['slave' '::1' 9000 'connect' -1]",
          VAANI_ROLE_REPLICA, "::1", 9000, 0 },
        { "['slave' 'h' 65535 'sync']", VAANI_ROLE_REPLICA, "h", 65535, 0 },
        { "['sentinel' ['resque-master' 'html-fragments-master']]",
          VAANI_ROLE_SENTINEL, "", 0, 0 },

        { "'# Replication\r\nrole:master\r\nconnected_slaves:0\r\n"
          "master_failover_state:no-failover\r\n'",
          VAANI_ROLE_MASTER, "", 0, 0 },
        { "'role:master'", VAANI_ROLE_MASTER, "", 0, 0 },
        { "'role:master\n'", VAANI_ROLE_MASTER, "", 0, 0 },
        { "'\r\n\n\r\nrole:master\r\nrole:slave\r\n'",
          VAANI_ROLE_MASTER, "", 0, 0 },
        { "'# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\n"
          "master_port:6379\r\nmaster_link_status:up\r\n"
          "master_last_io_seconds_ago:1\r\n'",
          VAANI_ROLE_REPLICA, "10.0.0.1", 6379, 1 },
        { "'master_link_status:down\r\nmaster_port:1\r\nmaster_host:::1\r\n"
          "role:slave'", VAANI_ROLE_REPLICA, "::1", 1, 0 },
        { "'role:slave\r\nmaster_host:a\r\nmaster_port:1\r\n"
          "master_link_status:upx\r\n'", VAANI_ROLE_REPLICA, "a", 1, 0 },
        { "'role:slave\r\nmaster_host:a\r\nmaster_port:1\r\n'",
          VAANI_ROLE_REPLICA, "a", 1, 0 }
    };

    static const char  *bad[] = {
        "[]",
        "5",
        "nil",
        "+OK",
        "-ERR",
        "['masters']",
        "[5]",
        "[nil]",
        "[[]]",
        "[+master]",
        "['slave']",
        "['slave' 'a' 1]",
        "['slave' 'a' 0 'connected']",
        "['slave' 'a' 65536 'connected']",
        "['slave' 'a' '1' 'connected']",
        "['slave' 5 1 'connected']",
        "['slave' '' 1 'connected']",
        "['slave' 'a b' 1 'connected']",
        "['slave' '" TEST_S255 "x' 1 'connected']",
        "['slave' 'a' 1 nil]",
        "['slave' 'a' 1 5]",
        "''",
        "'# Replication\r\n'",
        "'role'",
        "'role:'",
        "'role:x'",
        "'xrole:master'",
        "'role:masters\r\n'",
        "'role: master\r\n'",
        "'role:slave\r\n'",
        "'role:slave\r\nmaster_host:a\r\n'",
        "'role:slave\r\nmaster_port:1\r\n'",
        "'role:slave\r\nmaster_host:a\r\nmaster_port:0\r\n'",
        "'role:slave\r\nmaster_host:a\r\nmaster_port:\r\n'",
        "'role:slave\r\nmaster_host:\r\nmaster_port:1\r\n'",
        "'role:slave\r\nmaster_host:a b\r\nmaster_port:1\r\n'"
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        memset(&role, 0x5a, sizeof(vaani_role_t));

        reply = reply_of(rows[n].notation);
        rc = vaani_role_read(reply, &role);
        freeReplyObject(reply);

        vaani_test_that(rc == VAANI_OK, "%s", rows[n].notation);
        assert_int_equal(role.kind, rows[n].kind);
        assert_string_equal(role.host, rows[n].host);
        assert_int_equal(role.port, rows[n].port);
        assert_int_equal(role.link_up, rows[n].link_up);
    }

    for (n = 0; n < vaani_test_nelems(bad); n++) {
        reply = reply_of(bad[n]);
        rc = vaani_role_read(reply, &role);
        freeReplyObject(reply);

        vaani_test_that(rc == VAANI_ERROR, "%s", bad[n]);
    }
}


static void
test_sentinel(void **state)
{
    int          rc;
    char         host[VAANI_TOPOLOGY_HOST_SIZE];
    size_t       n;
    unsigned     port;
    redisReply  *reply;

    static const struct {
        const char  *notation;
        int          rc;
        const char  *host;
        unsigned     port;
    } rows[] = {
        { "['127.0.0.1' '6379']", VAANI_OK, "127.0.0.1", 6379 },
        { "['::1' '1']", VAANI_OK, "::1", 1 },
        { "['redis.example' '65535']", VAANI_OK, "redis.example", 65535 },
        { "['" TEST_S255 "' '1']", VAANI_OK, TEST_S255, 1 },
        { "nil", VAANI_DONE, NULL, 0 },
        { "nilarray", VAANI_DONE, NULL, 0 },
        { "[]", VAANI_ERROR, NULL, 0 },
        { "['127.0.0.1']", VAANI_ERROR, NULL, 0 },
        { "['127.0.0.1' '6379' 'x']", VAANI_ERROR, NULL, 0 },
        { "['127.0.0.1' 6379]", VAANI_ERROR, NULL, 0 },
        { "['127.0.0.1' '0']", VAANI_ERROR, NULL, 0 },
        { "['127.0.0.1' '65536']", VAANI_ERROR, NULL, 0 },
        { "['127.0.0.1' '']", VAANI_ERROR, NULL, 0 },
        { "['127.0.0.1' '6379 ']", VAANI_ERROR, NULL, 0 },
        { "['127.0.0.1' nil]", VAANI_ERROR, NULL, 0 },
        { "['' '6379']", VAANI_ERROR, NULL, 0 },
        { "[nil '6379']", VAANI_ERROR, NULL, 0 },
        { "[5 '6379']", VAANI_ERROR, NULL, 0 },
        { "['a b' '6379']", VAANI_ERROR, NULL, 0 },
        { "['" TEST_S255 "x' '1']", VAANI_ERROR, NULL, 0 },
        { "-IDONTKNOW", VAANI_ERROR, NULL, 0 },
        { "'127.0.0.1'", VAANI_ERROR, NULL, 0 },
        { "5", VAANI_ERROR, NULL, 0 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        reply = reply_of(rows[n].notation);
        rc = vaani_sentinel_read(reply, host, &port);
        freeReplyObject(reply);

        vaani_test_that(rc == rows[n].rc, "%s: rc %d", rows[n].notation, rc);

        if (rc == VAANI_OK) {
            assert_string_equal(host, rows[n].host);
            assert_int_equal(port, rows[n].port);
        }
    }
}


static void
test_switch(void **state)
{
    int                  rc;
    size_t               n, len;
    vaani_switch_t       s;
    vaani_test_arena_t   arena;

    static const struct {
        const char  *text;
        const char  *name;
        const char  *old_host;
        unsigned     old_port;
        const char  *host;
        unsigned     port;
    } rows[] = {
        { "mymaster 10.0.0.1 6379 10.0.0.2 6380",
          "mymaster", "10.0.0.1", 6379, "10.0.0.2", 6380 },
        { "m ::1 1 node.example 65535", "m", "::1", 1, "node.example", 65535 },
        { "m a 1 " TEST_S255 " 2", "m", "a", 1, TEST_S255, 2 }
    };

    static const char  *bad[] = {
        "",
        "mymaster",
        "mymaster 10.0.0.1",
        "mymaster 10.0.0.1 6379 10.0.0.2",
        "mymaster 10.0.0.1 6379 10.0.0.2 ",
        "mymaster 10.0.0.1 6379 10.0.0.2 6380 ",
        "mymaster 10.0.0.1 6379 10.0.0.2 6380 x",
        "mymaster 10.0.0.1 6379  10.0.0.2 6380",
        " mymaster 10.0.0.1 6379 10.0.0.2 6380",
        "mymaster 10.0.0.1 0 10.0.0.2 6380",
        "mymaster 10.0.0.1 6379 10.0.0.2 0",
        "mymaster 10.0.0.1 x 10.0.0.2 6380",
        "mymaster 10.0.0.1 6379 10.0.0.2 65536",
        "mymaster 10.0.0.1\n 6379 10.0.0.2 6380",
        "mymaster 10.0.0.1 6379 10.0.0.2\n 6380",
        "m " TEST_S255 "x 1 a 2",
        "m a 1 " TEST_S255 "x 2"
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        vaani_test_arena_init(&arena);

        len = strlen(rows[n].text);
        rc = vaani_switch_read((const char *)
                               vaani_test_text(&arena, rows[n].text, len),
                               len, &s);

        vaani_test_that(rc == VAANI_OK, "%s", rows[n].text);
        assert_int_equal(s.name.len, strlen(rows[n].name));
        assert_memory_equal(s.name.data, rows[n].name, s.name.len);
        assert_string_equal(s.old_host, rows[n].old_host);
        assert_int_equal(s.old_port, rows[n].old_port);
        assert_string_equal(s.host, rows[n].host);
        assert_int_equal(s.port, rows[n].port);

        vaani_test_arena_free(&arena);
    }

    for (n = 0; n < vaani_test_nelems(bad); n++) {
        vaani_test_arena_init(&arena);

        len = strlen(bad[n]);
        rc = vaani_switch_read((const char *)
                               vaani_test_text(&arena, bad[n], len), len, &s);

        vaani_test_that(rc == VAANI_ERROR, "%s", bad[n]);

        vaani_test_arena_free(&arena);
    }
}


int
main(void)
{
    const struct CMUnitTest  topologies[] = {
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_roles_of_nodes),
        cmocka_unit_test(test_same_nodes),
        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_asked_host),
        cmocka_unit_test(test_bad_topologies),
        cmocka_unit_test(test_null_bytes),
        cmocka_unit_test(test_many_nodes),
        cmocka_unit_test(test_repetitions),
        cmocka_unit_test(test_no_memory)
    };

    const struct CMUnitTest  texts[] = {
        cmocka_unit_test(test_redirects),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_sentinel),
        cmocka_unit_test(test_switch)
    };

    int  failed;

    failed = cmocka_run_group_tests_name("topologies", topologies, NULL, NULL);
    failed += cmocka_run_group_tests_name("texts", texts, NULL, NULL);

    return failed != 0;
}
