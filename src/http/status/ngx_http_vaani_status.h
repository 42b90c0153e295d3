
/*
 * Private to the files that answer "vaani_status".
 */


#ifndef _NGX_HTTP_VAANI_STATUS_H_INCLUDED_
#define _NGX_HTTP_VAANI_STATUS_H_INCLUDED_


#include "ngx_http_vaani_output.h"
#include "ngx_http_vaani_snapshot.h"


/* ngx_http_vaani_status_json.c */

void ngx_http_vaani_print_json(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot);


/* ngx_http_vaani_status_metrics.c: https://prometheus.io/docs/instrumenting/
 * exposition_formats/#text-based-format */

void ngx_http_vaani_print_metrics(ngx_http_vaani_output_t *out,
    ngx_http_vaani_snapshot_t *snapshot);


#endif /* _NGX_HTTP_VAANI_STATUS_H_INCLUDED_ */
