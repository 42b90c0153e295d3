
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "vaani_spool.h"


#define VAANI_SPOOL_TIMEOUT    15       /* of the endpoint, s */
#define VAANI_SPOOL_HEAD_LEN   16384
#define VAANI_SPOOL_SECRET_LEN 512
#define VAANI_SPOOL_MAC_LEN    32
#define VAANI_SPOOL_ID_LEN     16       /* random bytes */


struct vaani_spool_target_s {
    char                 host[VAANI_SPOOL_HOST_LEN];    /* for connecting, or
                                                           the socket's path */
    char                 port[8];                       /* "": a unix socket */
    char                 header[VAANI_SPOOL_HOST_LEN];  /* Host */
    char                 uri[2048];

    u_char               secret[VAANI_SPOOL_SECRET_LEN];
    size_t               secret_len;                    /* 0: none */
    unsigned             standard;
    char                 headers[4096];                 /* with line breaks */
};


static int vaani_spool_url(vaani_spool_target_t *target, const char *url);
static const char *vaani_spool_url_socket(vaani_spool_target_t *target,
    const char *p);
static const char *vaani_spool_url_host(vaani_spool_target_t *target,
    const char *p);
static int vaani_spool_secret(vaani_spool_target_t *target, const char *path);
static int vaani_spool_headers(vaani_spool_target_t *target, const char *path);
static int vaani_spool_sign(const vaani_spool_target_t *target, char *dst,
    size_t size, const u_char *body, size_t len);
static int vaani_spool_mac(const vaani_spool_target_t *target, u_char *mac,
    const char *prefix, const u_char *body, size_t len);
static void vaani_spool_hex(char *dst, const u_char *src, size_t len);
static int vaani_spool_status(vaani_spool_conn_t *conn, const char **why);


int
vaani_spool_target(vaani_spool_t *spool, const vaani_spool_options_t *options)
{
    static vaani_spool_target_t  target;

    target.standard = (strcmp(options->format, "standard") == 0);

    if (vaani_spool_url(&target, options->to) != 0
        || (options->secret_file
            && vaani_spool_secret(&target, options->secret_file) != 0)
        || (options->header_file
            && vaani_spool_headers(&target, options->header_file) != 0))
    {
        return 1;
    }

    spool->target = &target;

    return 0;
}


static int
vaani_spool_url(vaani_spool_target_t *target, const char *url)
{
    const char  *p;

    if (strncmp(url, "https://", 8) == 0) {
        fputs("vaani-spool: https is not supported: use an http:// address "
              "of the same endpoint on this host, or a tunnel\n", stderr);
        return -1;
    }

    if (strncmp(url, "http://", 7) != 0) {
        fputs("vaani-spool: URL must be http://HOST[:PORT]/URI or "
              "http://unix:/PATH:/URI\n", stderr);
        return -1;
    }

    for (p = url; *p; p++) {
        if ((u_char) *p <= 0x20 || *p == 0x7f) {
            goto invalid;
        }
    }

    p = url + 7;
    p = (strncmp(p, "unix:", 5) == 0) ? vaani_spool_url_socket(target, p + 5)
                                      : vaani_spool_url_host(target, p);

    if (p == NULL
        || (size_t) snprintf(target->uri, sizeof(target->uri), "%s%s",
                             *p == '/' ? "" : "/", p)
           >= sizeof(target->uri))
    {
        goto invalid;
    }

    return 0;

invalid:

    fputs("vaani-spool: invalid URL; expected http://HOST[:PORT]/URI or "
          "http://unix:/PATH:/URI\n", stderr);

    return -1;
}


/*
 * PATH[:/URI].  Returns the beginning of the URI, or NULL if the path is
 * invalid.
 */

static const char *
vaani_spool_url_socket(vaani_spool_target_t *target, const char *p)
{
    size_t  len;

    len = strcspn(p, ":");

    if (len == 0 || len >= sizeof(target->host)) {
        return NULL;
    }

    memcpy(target->host, p, len);
    strcpy(target->header, "localhost");

    return p[len] ? p + len + 1 : p + len;
}


/*
 * HOST[:PORT], where the host may be in brackets.  Returns the beginning of
 * the URI, or NULL if that is invalid.
 */

static const char *
vaani_spool_url_host(vaani_spool_target_t *target, const char *p)
{
    char    *header, *colon;
    size_t   len, plen;

    header = target->header;
    len = strcspn(p, "/?");

    if (len == 0 || len >= sizeof(target->header) || memchr(p, '@', len)) {
        return NULL;
    }

    memcpy(header, p, len);
    p += len;

    strcpy(target->port, "80");
    colon = strrchr(header, ':');

    if (colon && strchr(colon, ']') == NULL) {
        plen = strlen(colon + 1);

        if (plen == 0 || plen >= sizeof(target->port)) {
            return NULL;
        }

        memcpy(target->port, colon + 1, plen + 1);
        len = colon - header;
    }

    if (header[0] == '[' && len > 2 && header[len - 1] == ']') {
        memcpy(target->host, header + 1, len - 2);

    } else {
        memcpy(target->host, header, len);
    }

    return p;
}


static int
vaani_spool_secret(vaani_spool_target_t *target, const char *path)
{
    int     len, padding;
    char    line[VAANI_SPOOL_SECRET_LEN], *p;
    size_t  n;

    if (vaani_spool_first_line(path, line, sizeof(line)) != 0) {
        return -1;
    }

    if (!target->standard) {
        target->secret_len = strlen(line);
        memcpy(target->secret, line, target->secret_len);
        return 0;
    }

    p = line;

    if (strncmp(p, "v1,", 3) == 0) {
        p += 3;
    }

    if (strncmp(p, "whsec_", 6) == 0) {
        p += 6;
    }

    for (n = 0; p[n]; n++) {
        p[n] = (p[n] == '-') ? '+' : (p[n] == '_') ? '/' : p[n];
    }

    /* the padding is optional */

    while (n % 4 && p + n + 1 < line + sizeof(line)) {
        p[n++] = '=';
        p[n] = '\0';
    }

    padding = (n > 1 && p[n - 1] == '=') + (n > 1 && p[n - 2] == '=');
    len = EVP_DecodeBlock(target->secret, (u_char *) p, n);

    if (len - padding <= 0) {
        fprintf(stderr, "vaani-spool: %s: the secret must be base64\n", path);
        return -1;
    }

    target->secret_len = len - padding;

    return 0;
}


static int
vaani_spool_headers(vaani_spool_target_t *target, const char *path)
{
    FILE    *file;
    char     line[2048];
    size_t   len;

    file = fopen(path, "re");

    if (file == NULL) {
        fprintf(stderr, "vaani-spool: %s: %s\n", path, strerror(errno));
        return -1;
    }

    len = 0;

    while (fgets(line, sizeof(line), file)) {

        if (vaani_spool_trim(line) == 0) {
            continue;
        }

        if (strchr(line, ':') == NULL
            || len + strlen(line) + 3 > sizeof(target->headers))
        {
            fprintf(stderr, "vaani-spool: %s: expected lines \"Name: value\"\n",
                    path);
            (void) fclose(file);
            return -1;
        }

        len += snprintf(target->headers + len, sizeof(target->headers) - len,
                        "%s\r\n", line);
    }

    (void) fclose(file);

    return 0;
}


int
vaani_spool_post(vaani_spool_target_t *target, const u_char *body, size_t len,
    const char **why)
{
    int                 n, signature, status;
    char                head[VAANI_SPOOL_HEAD_LEN];
    vaani_spool_conn_t  conn;

    n = snprintf(head, sizeof(head),
                 "POST %s HTTP/1.1\r\n"
                 "Host: %s\r\n"
                 "Connection: close\r\n"
                 "Content-Type: application/json\r\n"
                 "Content-Length: %zu\r\n"
                 "User-Agent: vaani-spool\r\n"
                 "%s", target->uri, target->header, len, target->headers);

    signature = vaani_spool_sign(target, head + n, sizeof(head) - n - 2, body,
                                 len);

    if (signature == -1) {
        *why = "signing failed";
        return -1;
    }

    n += signature;
    memcpy(head + n, "\r\n", 2);
    n += 2;

    memset(&conn, 0, sizeof(vaani_spool_conn_t));

    conn.fd = vaani_spool_dial(target->host,
                               target->port[0] ? target->port : NULL,
                               VAANI_SPOOL_TIMEOUT, why);

    if (conn.fd == -1) {
        return -1;
    }

    /* a server may answer early and close the connection */

    if (vaani_spool_write(&conn, head, n) == 0) {
        (void) vaani_spool_write(&conn, body, len);
    }

    status = vaani_spool_status(&conn, why);

    vaani_spool_hang_up(&conn);

    return status;
}


/*
 * Writes the headers of a signature.  Returns their length, or -1.
 */

static int
vaani_spool_sign(const vaani_spool_target_t *target, char *dst, size_t size,
    const u_char *body, size_t len)
{
    int        n;
    char       prefix[128], id[2 * VAANI_SPOOL_ID_LEN + 1];
    char       whole[2 * VAANI_SPOOL_MAC_LEN + 1];
    char       timed[2 * VAANI_SPOOL_MAC_LEN + 1];
    u_char     mac[VAANI_SPOOL_MAC_LEN], random[VAANI_SPOOL_ID_LEN];
    long long  now;

    if (target->secret_len == 0) {
        return 0;
    }

    now = (long long) time(NULL);

    if (target->standard) {

        if (RAND_bytes(random, sizeof(random)) != 1) {
            return -1;
        }

        vaani_spool_hex(id, random, sizeof(random));

        n = snprintf(prefix, sizeof(prefix), "msg_%s.%lld.", id, now);

        if (n < 0 || vaani_spool_mac(target, mac, prefix, body, len) != 0) {
            return -1;
        }

        /* 44 bytes and a null of 32 */

        (void) EVP_EncodeBlock((u_char *) whole, mac, sizeof(mac));

        n = snprintf(dst, size,
                     "webhook-id: msg_%s\r\n"
                     "webhook-timestamp: %lld\r\n"
                     "webhook-signature: v1,%s\r\n", id, now, whole);

    } else {
        n = snprintf(prefix, sizeof(prefix), "%lld.", now);

        if (n < 0 || vaani_spool_mac(target, mac, "", body, len) != 0) {
            return -1;
        }

        vaani_spool_hex(whole, mac, sizeof(mac));

        if (vaani_spool_mac(target, mac, prefix, body, len) != 0) {
            return -1;
        }

        vaani_spool_hex(timed, mac, sizeof(mac));

        n = snprintf(dst, size,
                     "X-Webhook-Signature: sha256=%s\r\n"
                     "X-Vaani-Timestamp: %lld\r\n"
                     "X-Vaani-Signature: sha256=%s\r\n", whole, now, timed);
    }

    return (n < 0 || (size_t) n >= size) ? -1 : n;
}


static int
vaani_spool_mac(const vaani_spool_target_t *target, u_char *mac,
    const char *prefix, const u_char *body, size_t len)
{
    int        rc;
    size_t     plen;
    u_char    *text;
    unsigned   n;

    plen = strlen(prefix);
    text = malloc(plen + len + 1);

    if (text == NULL) {
        return -1;
    }

    memcpy(text, prefix, plen);
    memcpy(text + plen, body, len);

    n = 0;

    rc = (HMAC(EVP_sha256(), target->secret, target->secret_len, text,
               plen + len, mac, &n)
          && n == VAANI_SPOOL_MAC_LEN) ? 0 : -1;

    free(text);

    return rc;
}


static void
vaani_spool_hex(char *dst, const u_char *src, size_t len)
{
    size_t             n;
    static const char  digits[] = "0123456789abcdef";

    for (n = 0; n < len; n++) {
        *dst++ = digits[src[n] >> 4];
        *dst++ = digits[src[n] & 0xf];
    }

    *dst = '\0';
}


/*
 * The status of the answer; skips answers of 1xx.
 */

static int
vaani_spool_status(vaani_spool_conn_t *conn, const char **why)
{
    int      status;
    char     answer[VAANI_SPOOL_HEAD_LEN], *end, *p;
    size_t   len;
    ssize_t  n;

    len = 0;

    for ( ;; ) {
        answer[len] = '\0';

        while ((end = strstr(answer, "\r\n\r\n")) != NULL) {
            p = answer;

            if (strncmp(p, "HTTP/1.", 7) != 0
                || sscanf(p + 8, " %3d", &status) != 1)
            {
                *why = "the answer is not HTTP";
                return -1;
            }

            if (status >= 200) {
                return status;
            }

            len -= end + 4 - answer;
            memmove(answer, end + 4, len);
            answer[len] = '\0';
        }

        if (len == sizeof(answer) - 1) {
            *why = "the header of the answer is too long";
            return -1;
        }

        n = vaani_spool_receive(conn, answer + len,
                                sizeof(answer) - 1 - len);

        if (n == -1) {
            *why = conn->why;
            return -1;
        }

        len += n;
    }
}
