
#include <string.h>

#include "vaani_master.h"


static int vaani_role_array(const redisReply *reply, vaani_role_t *role);
static int vaani_role_info(const char *text, size_t len, vaani_role_t *role);
static void vaani_role_field(const char *line, size_t len, const char *name,
    vaani_str_t *value);


int
vaani_role_read(const redisReply *reply, vaani_role_t *role)
{
    memset(role, 0, sizeof(vaani_role_t));

    if (reply->type == REDIS_REPLY_ARRAY) {
        return vaani_role_array(reply, role);
    }

    if (reply->type == REDIS_REPLY_STRING) {
        return vaani_role_info(reply->str, reply->len, role);
    }

    return VAANI_ERROR;
}


/*
 * "slave", host and port of its master, the state of the link, the offset.
 */

static int
vaani_role_array(const redisReply *reply, vaani_role_t *role)
{
    const redisReply  *host, *port, *state;

    if (reply->elements == 0) {
        return VAANI_ERROR;
    }

    if (vaani_reply_is(reply->element[0], "master")) {
        role->kind = VAANI_ROLE_MASTER;
        return VAANI_OK;
    }

    if (vaani_reply_is(reply->element[0], "sentinel")) {
        role->kind = VAANI_ROLE_SENTINEL;
        return VAANI_OK;
    }

    if (!vaani_reply_is(reply->element[0], "slave") || reply->elements < 4) {
        return VAANI_ERROR;
    }

    role->kind = VAANI_ROLE_REPLICA;

    host = reply->element[1];
    port = reply->element[2];
    state = reply->element[3];

    if (host->type != REDIS_REPLY_STRING || port->type != REDIS_REPLY_INTEGER
        || port->integer < 1 || port->integer > VAANI_TOPOLOGY_MAX_PORT
        || state->type != REDIS_REPLY_STRING)
    {
        return VAANI_ERROR;
    }

    role->port = port->integer;
    role->link_up = vaani_reply_is(state, "connected");

    return vaani_text_host(host->str, host->len, role->host);
}


static int
vaani_role_info(const char *text, size_t len, vaani_role_t *role)
{
    size_t       size;
    const char  *p, *last, *end, *next;
    vaani_str_t  kind, host, port, link;

    memset(&kind, 0, sizeof(vaani_str_t));
    memset(&host, 0, sizeof(vaani_str_t));
    memset(&port, 0, sizeof(vaani_str_t));
    memset(&link, 0, sizeof(vaani_str_t));

    last = text + len;

    for (p = text; p < last; p = next) {
        end = memchr(p, '\n', last - p);

        next = end ? end + 1 : last;
        size = (end ? end : last) - p;

        if (size > 0 && p[size - 1] == '\r') {
            size--;
        }

        vaani_role_field(p, size, "role:", &kind);
        vaani_role_field(p, size, "master_host:", &host);
        vaani_role_field(p, size, "master_port:", &port);
        vaani_role_field(p, size, "master_link_status:", &link);
    }

    if (kind.data == NULL) {
        return VAANI_ERROR;
    }

    if (vaani_text_is(kind.data, kind.len, "master")) {
        role->kind = VAANI_ROLE_MASTER;
        return VAANI_OK;
    }

    if (!vaani_text_is(kind.data, kind.len, "slave")
        || host.data == NULL || port.data == NULL)
    {
        return VAANI_ERROR;
    }

    role->kind = VAANI_ROLE_REPLICA;
    role->link_up = (link.data && vaani_text_is(link.data, link.len, "up"));

    if (vaani_text_port(port.data, port.len, &role->port) != VAANI_OK) {
        return VAANI_ERROR;
    }

    return vaani_text_host(host.data, host.len, role->host);
}


/*
 * Sets *value if the line begins with the name.  The first such line counts.
 */

static void
vaani_role_field(const char *line, size_t len, const char *name,
    vaani_str_t *value)
{
    size_t  n;

    n = strlen(name);

    if (value->data == NULL && len >= n && memcmp(line, name, n) == 0) {
        value->data = (const u_char *) line + n;
        value->len = len - n;
    }
}


int
vaani_sentinel_read(const redisReply *reply, char *host, unsigned *port)
{
    const redisReply  *address, *number;

    if (reply->type == REDIS_REPLY_NIL) {
        return VAANI_DONE;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) {
        return VAANI_ERROR;
    }

    address = reply->element[0];
    number = reply->element[1];

    if (address->type != REDIS_REPLY_STRING
        || number->type != REDIS_REPLY_STRING
        || vaani_text_port(number->str, number->len, port) != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    return vaani_text_host(address->str, address->len, host);
}


int
vaani_switch_read(const char *text, size_t len, vaani_switch_t *s)
{
    const char  *p, *last;
    vaani_str_t  old_host, old_port, host, port;

    p = text;
    last = text + len;

    if (vaani_text_word(&p, last, &s->name) != VAANI_OK
        || vaani_text_word(&p, last, &old_host) != VAANI_OK
        || vaani_text_word(&p, last, &old_port) != VAANI_OK
        || vaani_text_word(&p, last, &host) != VAANI_OK
        || vaani_text_word(&p, last, &port) != VAANI_OK
        || p != last)
    {
        return VAANI_ERROR;
    }

    if (vaani_text_port(old_port.data, old_port.len, &s->old_port) != VAANI_OK
        || vaani_text_port(port.data, port.len, &s->port) != VAANI_OK
        || vaani_text_host(old_host.data, old_host.len, s->old_host)
           != VAANI_OK)
    {
        return VAANI_ERROR;
    }

    return vaani_text_host(host.data, host.len, s->host);
}
