
#include "ngx_http_vaani.h"


void
ngx_http_vaani_drift(const vaani_event_t *event, ngx_log_t *log)
{
}
