
#include "ngx_http_vaani.h"

#if (NGX_HTTP_VAANI_HMAC)
#include <openssl/sha.h>
#else
#include <ngx_sha1.h>
#endif


#define NGX_HTTP_VAANI_SHA1_LEN         20


static void ngx_http_vaani_sha1(u_char *digest, const void *data, size_t len);


void
ngx_http_vaani_digest(u_char *dst, const void *data, size_t len)
{
    u_char     digest[NGX_HTTP_VAANI_SHA1_LEN];
    ngx_str_t  src, encoded;

    ngx_http_vaani_sha1(digest, data, len);

    src.data = digest;
    src.len = NGX_HTTP_VAANI_DIGEST_BYTES;
    encoded.data = dst;

    ngx_encode_base64url(&encoded, &src);
}


/*
 * OpenSSL uses what the processor has for it, which matters for transcripts.
 * EVP would take longer to begin and to end than a short body takes.
 */

static void
ngx_http_vaani_sha1(u_char *digest, const void *data, size_t len)
{
#if (NGX_HTTP_VAANI_HMAC)

    SHA_CTX  sha1;

    SHA1_Init(&sha1);
    SHA1_Update(&sha1, data, len);
    SHA1_Final(digest, &sha1);

#else

    ngx_sha1_t  sha1;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, data, len);
    ngx_sha1_final(digest, &sha1);

#endif
}
