
/*
 * What clang's analyzer is told of nginx (make analyze includes it first).
 *
 * It doesn't follow ngx_queue_remove(): an entry that was taken out and freed
 * is at the head for it still.  A function that it can't look into may return
 * another one.
 */


#ifndef _VAANI_ANALYZE_H_INCLUDED_
#define _VAANI_ANALYZE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


ngx_queue_t *vaani_analyze_entry(ngx_queue_t *entry);


#undef ngx_queue_head
#define ngx_queue_head(h)  vaani_analyze_entry((h)->next)

#undef ngx_queue_last
#define ngx_queue_last(h)  vaani_analyze_entry((h)->prev)


#endif /* _VAANI_ANALYZE_H_INCLUDED_ */
