
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "vaani_spool.h"


static int vaani_spool_redis_place(vaani_spool_url_t *url, const char *place);
static int vaani_spool_number(char *dst, size_t size, const char *src,
    size_t len, unsigned long max);


int
vaani_spool_redis_url(vaani_spool_url_t *url, const char *text)
{
    size_t       n, len;
    const char  *p;

    static const struct {
        const char  *scheme;
        unsigned     tls;
    } schemes[] = {
        { "redis://", 0 }, { "valkey://", 0 },
        { "rediss://", 1 }, { "valkeys://", 1 }
    };

    for (n = 0; n < sizeof(schemes) / sizeof(schemes[0]); n++) {
        len = strlen(schemes[n].scheme);

        if (strncasecmp(text, schemes[n].scheme, len) == 0) {
            url->tls = schemes[n].tls;
            return vaani_spool_redis_place(url, text + len);
        }
    }

    if (strncasecmp(text, "unix:", 5) != 0) {
        fputs("vaani-spool: REDIS must begin with \"redis://\", "
              "\"rediss://\", \"valkey://\", \"valkeys://\" or \"unix:\"\n",
              stderr);
        return -1;
    }

    text += 5;
    len = strcspn(text, "?");
    p = text + len;

    if (len == 0 || len >= sizeof(url->host)
        || (*p
            && (strncmp(p, "?db=", 4) != 0
                || vaani_spool_number(url->db, sizeof(url->db), p + 4,
                                      strlen(p + 4), 0x7fffffff)
                   != 0)))
    {
        fputs("vaani-spool: REDIS must be unix:/PATH[?db=N]\n", stderr);
        return -1;
    }

    memcpy(url->host, text, len);

    return 0;
}


static int
vaani_spool_redis_place(vaani_spool_url_t *url, const char *place)
{
    size_t       len;
    const char  *p, *end;

    /* command lines are visible to other users of the host */

    if (strchr(place, '@')) {
        fputs("vaani-spool: REDIS must not have a user or password; use "
              "--user and --password-file, or VAANI_REDIS_USER and "
              "VAANI_REDIS_PASSWORD\n", stderr);
        return -1;
    }

    p = place;
    end = p + strcspn(p, "/?#");

    if (*p == '[') {
        p++;
        len = strcspn(p, "]/?#");

        if (p[len] != ']') {
            goto invalid;
        }

        place = p + len + 1;

    } else {
        len = strcspn(p, ":/?#");
        place = p + len;
    }

    if (len == 0 || len >= sizeof(url->host)) {
        goto invalid;
    }

    memcpy(url->host, p, len);
    memcpy(url->port, "6379", 5);

    if (place != end
        && (*place != ':'
            || vaani_spool_number(url->port, sizeof(url->port), place + 1,
                                  end - place - 1, 65535)
               != 0
            || strcmp(url->port, "0") == 0))
    {
        goto invalid;
    }

    if (*end == '\0' || strcmp(end, "/") == 0) {
        return 0;
    }

    if (*end == '/'
        && vaani_spool_number(url->db, sizeof(url->db), end + 1,
                              strlen(end + 1), 0x7fffffff)
           == 0)
    {
        return 0;
    }

invalid:

    fputs("vaani-spool: REDIS must be redis://HOST[:PORT][/DB], with an IPv6 "
          "address in brackets\n", stderr);

    return -1;
}


static int
vaani_spool_number(char *dst, size_t size, const char *src, size_t len,
    unsigned long max)
{
    if (len == 0 || len >= size || len > 10
        || strspn(src, "0123456789") < len)
    {
        return -1;
    }

    memcpy(dst, src, len);
    dst[len] = '\0';

    return (strtoul(dst, NULL, 10) > max) ? -1 : 0;
}
