
/*
 * Authentication of senders: the functions of src/http/auth.  Included by
 * ../ngx_http_vaani.h.
 */


#ifndef _NGX_HTTP_VAANI_AUTH_H_INCLUDED_
#define _NGX_HTTP_VAANI_AUTH_H_INCLUDED_


/* auth/ngx_http_vaani_keys.c: prepares secrets of authentication */

/*
 * Handlers of ngx_http_vaani_take_secrets(): each adds a vaani_token_t *, or
 * an HMAC_CTX * that has its key, and wipes it with the configuration.  A
 * short secret causes a warning.
 */
ngx_int_t ngx_http_vaani_add_token(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret);
ngx_int_t ngx_http_vaani_add_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret);

/* The same for a secret of Standard Webhooks, which is base64. */
ngx_int_t ngx_http_vaani_add_webhook_key(ngx_conf_t *cf, ngx_array_t *secrets,
    ngx_str_t *secret);


/* auth/ngx_http_vaani_signers.c: the signature schemes and their secrets */

char *ngx_http_vaani_secret(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_vaani_signature(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);


/* auth/ngx_http_vaani_auth_conf.c: the directives of authentication */

char *ngx_http_vaani_token(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * Records where a directive of authentication is set, for
 * ngx_http_vaani_check_auth(). Returns the same as a directive handler.
 */
char *ngx_http_vaani_protect(ngx_conf_t *cf, ngx_command_t *cmd,
    ngx_http_vaani_loc_conf_t *vlcf);

/*
 * Merges them. conf->webhook must be known.  Returns the same as a directive
 * handler.
 */
char *ngx_http_vaani_merge_auth(ngx_conf_t *cf,
    ngx_http_vaani_loc_conf_t *conf, ngx_http_vaani_loc_conf_t *prev);

/*
 * Refuses directives that protect no endpoint, after all locations are merged.
 * Returns NGX_OK, or NGX_ERROR after logging the reason.
 */
ngx_int_t ngx_http_vaani_check_auth(ngx_conf_t *cf);


/*
 * auth/ngx_http_vaani_auth.c
 */

/*
 * Checks the request as the location requires: the token, and the signatures
 * of ctx->body if whole is set (the body was read).  Without whole, only the
 * headers of signatures are checked, before the body is read.  Returns NGX_OK;
 * NGX_DECLINED, with ctx->result and ctx->reason set; or NGX_ERROR (no
 * memory).  With the body, every refusal takes the same time.
 */
ngx_int_t ngx_http_vaani_authorize(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx, ngx_uint_t whole);

/*
 * Logs the reason and sends the 401, which is always the same.  Returns the
 * value for ngx_http_finalize_request().
 */
ngx_int_t ngx_http_vaani_send_unauthorized(ngx_http_request_t *r,
    ngx_http_vaani_ctx_t *ctx);


#endif /* _NGX_HTTP_VAANI_AUTH_H_INCLUDED_ */
