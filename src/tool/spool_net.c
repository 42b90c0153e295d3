
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "vaani_spool.h"


static int vaani_spool_socket(const struct addrinfo *addr, int timeout,
    const char **why);
static int vaani_spool_verify_name(SSL *ssl, const char *host);
static void vaani_spool_tls_error(vaani_spool_conn_t *conn, int rc);
static const char *vaani_spool_errno(void);


int
vaani_spool_dial(const char *host, const char *port, int timeout,
    const char **why)
{
    int                  fd, rc;
    struct addrinfo      hints, *addrs, *addr;
    struct sockaddr_un   un;

    memset(&hints, 0, sizeof(hints));

    hints.ai_socktype = SOCK_STREAM;

    if (port == NULL) {

        if (strlen(host) >= sizeof(un.sun_path)) {
            *why = "the path of the socket is too long";
            return -1;
        }

        memset(&un, 0, sizeof(un));

        un.sun_family = AF_UNIX;
        memcpy(un.sun_path, host, strlen(host) + 1);

        hints.ai_family = AF_UNIX;
        hints.ai_addr = (struct sockaddr *) &un;
        hints.ai_addrlen = sizeof(un);

        return vaani_spool_socket(&hints, timeout, why);
    }

    rc = getaddrinfo(host, port, &hints, &addrs);

    if (rc != 0) {
        *why = gai_strerror(rc);
        return -1;
    }

    *why = "no address found";
    fd = -1;

    for (addr = addrs; addr && fd == -1; addr = addr->ai_next) {
        fd = vaani_spool_socket(addr, timeout, why);
    }

    freeaddrinfo(addrs);

    return fd;
}


static int
vaani_spool_socket(const struct addrinfo *addr, int timeout, const char **why)
{
    int             fd;
    struct timeval  tv;

    fd = socket(addr->ai_family, addr->ai_socktype|SOCK_CLOEXEC,
                addr->ai_protocol);

    if (fd == -1) {
        *why = strerror(errno);
        return -1;
    }

    tv.tv_sec = timeout;
    tv.tv_usec = 0;

    /* on Linux the first one applies to connect(), too */

    (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
    (void) setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));

    if (connect(fd, addr->ai_addr, addr->ai_addrlen) == 0) {
        return fd;
    }

    *why = (errno == EINPROGRESS) ? "connecting timed out" : strerror(errno);

    (void) close(fd);

    return -1;
}


int
vaani_spool_start_tls(vaani_spool_conn_t *conn, const char *host,
    const char *cacert)
{
    int  rc;

    conn->why = "out of memory";

    conn->ctx = SSL_CTX_new(TLS_client_method());

    if (conn->ctx == NULL
        || SSL_CTX_set_min_proto_version(conn->ctx, TLS1_2_VERSION) != 1)
    {
        return -1;
    }

    rc = cacert ? SSL_CTX_load_verify_locations(conn->ctx, cacert, NULL)
                : SSL_CTX_set_default_verify_paths(conn->ctx);

    if (rc != 1) {
        conn->why = cacert ? "the file of --cacert cannot be read or has no "
                             "certificate"
                           : "the CAs of the system cannot be read";
        return -1;
    }

    SSL_CTX_set_verify(conn->ctx, SSL_VERIFY_PEER, NULL);

    conn->ssl = SSL_new(conn->ctx);

    if (conn->ssl == NULL
        || SSL_set_fd(conn->ssl, conn->fd) != 1
        || vaani_spool_verify_name(conn->ssl, host) != 0)
    {
        return -1;
    }

    ERR_clear_error();

    rc = SSL_connect(conn->ssl);

    if (rc != 1) {
        vaani_spool_tls_error(conn, rc);
        return -1;
    }

    return 0;
}


/*
 * The certificate must be for this name or address.  A dot at the end of a
 * name and the zone of an address are not part of it.
 */

static int
vaani_spool_verify_name(SSL *ssl, const char *host)
{
    char    name[VAANI_SPOOL_HOST_LEN];
    size_t  len;
    u_char  addr[sizeof(struct in6_addr)];

    len = strcspn(host, "%");

    if (len > 1 && host[len] == '\0' && host[len - 1] == '.') {
        len--;
    }

    if (len >= sizeof(name)) {
        return -1;
    }

    memcpy(name, host, len);
    name[len] = '\0';

    if (inet_pton(AF_INET, name, addr) == 1
        || inet_pton(AF_INET6, name, addr) == 1)
    {
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1
               ? 0 : -1;
    }

    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);

    return (SSL_set1_host(ssl, name) == 1
            && SSL_set_tlsext_host_name(ssl, name) == 1) ? 0 : -1;
}


/*
 * Finds the reason of an error.  The connection is unusable afterwards.
 */

static void
vaani_spool_tls_error(vaani_spool_conn_t *conn, int rc)
{
    long           verified;
    const char    *reason;
    unsigned long  error;

    verified = SSL_get_verify_result(conn->ssl);

    if (verified != X509_V_OK) {
        (void) snprintf(conn->text, sizeof(conn->text),
                        "invalid certificate (%s)",
                        X509_verify_cert_error_string(verified));
        conn->why = conn->text;
        return;
    }

    switch (SSL_get_error(conn->ssl, rc)) {

    case SSL_ERROR_ZERO_RETURN:
        conn->why = "the server closed the connection";
        return;

    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        conn->why = SSL_is_init_finished(conn->ssl)
                    ? "timed out" : "the TLS handshake timed out; is this "
                                    "the port for redis://?";
        return;

    default:
        break;
    }

    error = ERR_peek_error();

    if (error == 0) {
        conn->why = errno ? vaani_spool_errno()
                          : "the server closed the connection";
        return;
    }

    if (ERR_GET_LIB(error) == ERR_LIB_SSL
        && (ERR_GET_REASON(error) == SSL_R_WRONG_VERSION_NUMBER
            || ERR_GET_REASON(error) == SSL_R_PACKET_LENGTH_TOO_LONG))
    {
        conn->why = "the server does not support TLS; is this the port for "
                    "redis://?";
        return;
    }

    reason = ERR_reason_error_string(error);

    (void) snprintf(conn->text, sizeof(conn->text), "TLS failed (%s)",
                    reason ? reason : "unknown reason");
    conn->why = conn->text;
}


int
vaani_spool_write(vaani_spool_conn_t *conn, const void *data, size_t len)
{
    int          n;
    size_t       size;
    const char  *p = data;

    while (len) {
        size = (len < VAANI_SPOOL_CHUNK) ? len : VAANI_SPOOL_CHUNK;

        errno = 0;

        if (conn->ssl) {
            ERR_clear_error();
            n = SSL_write(conn->ssl, p, (int) size);

        } else {
            n = (int) send(conn->fd, p, size, MSG_NOSIGNAL);
        }

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n <= 0) {

            if (conn->ssl) {
                vaani_spool_tls_error(conn, n);

            } else {
                conn->why = vaani_spool_errno();
            }

            return -1;
        }

        p += n;
        len -= n;
    }

    return 0;
}


ssize_t
vaani_spool_receive(vaani_spool_conn_t *conn, void *data, size_t size)
{
    int  n;

    do {
        errno = 0;

        if (conn->ssl) {
            ERR_clear_error();
            n = SSL_read(conn->ssl, data, (int) size);

        } else {
            n = (int) recv(conn->fd, data, size, 0);
        }

    } while (n == -1 && errno == EINTR);

    if (n > 0) {
        return n;
    }

    if (conn->ssl) {
        vaani_spool_tls_error(conn, n);

    } else {
        conn->why = (n == 0) ? "the server closed the connection"
                             : vaani_spool_errno();
    }

    return -1;
}


static const char *
vaani_spool_errno(void)
{
    return (errno == EAGAIN) ? "timed out" : strerror(errno);
}


void
vaani_spool_hang_up(vaani_spool_conn_t *conn)
{
    SSL_free(conn->ssl);
    SSL_CTX_free(conn->ctx);

    if (conn->fd != -1) {
        (void) close(conn->fd);
    }

    conn->ssl = NULL;
    conn->ctx = NULL;
    conn->fd = -1;
}
