
#include "ngx_vaani_spool_private.h"


ngx_vaani_spool_refusal_t *
ngx_vaani_spool_keep_refused(ngx_vaani_spool_t *spool, ngx_str_t *reason,
    ngx_str_t *body, uint64_t received_at, ngx_vaani_spool_append_pt handler,
    void *data)
{
    return NULL;
}


void
ngx_vaani_spool_detach_refusal(ngx_vaani_spool_refusal_t *refusal)
{
}
