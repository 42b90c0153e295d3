
/*
 * Refused deliveries: private to the two files of them.
 */


#ifndef _NGX_VAANI_SPOOL_REFUSED_H_INCLUDED_
#define _NGX_VAANI_SPOOL_REFUSED_H_INCLUDED_


#include "ngx_vaani_spool_private.h"


struct ngx_vaani_spool_refusal_s {
    ngx_queue_t                 queue;
    ngx_vaani_spool_append_pt   handler;    /* NULL: detached, or none */
    void                       *data;
    ngx_atomic_uint_t           segment;    /* it was written to, 0: none */
    ngx_int_t                   rc;
    size_t                      len;        /* of the record with its header */
};


/* the segments, used by the thread */

typedef struct {
    ngx_vaani_spool_t          *spool;
    ngx_queue_t                *batch;
    ngx_str_t                   dir;
    ngx_atomic_uint_t           lowest;
    ngx_atomic_uint_t           highest;
    off_t                       size;       /* of all of them */

    int                         fd;         /* -1: none is open */
    ngx_atomic_uint_t           segment;    /* the one that is open */
    off_t                       end;        /* of it */
} ngx_vaani_spool_refused_files_t;


#define ngx_vaani_spool_refusal_data(refusal)  ((u_char *) ((refusal) + 1))


/*
 * ngx_vaani_spool_refused_files.c: in a thread.  Errors are in errno.
 */

/*
 * writes a refusal to a segment; deletes old ones for space.  NGX_OK or
 * NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_refused_write(
    ngx_vaani_spool_refused_files_t *files,
    ngx_vaani_spool_refusal_t *refusal);

/*
 * Closes the open segment.  Everything written to it is then safe, or counts
 * as not kept.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_refused_close(
    ngx_vaani_spool_refused_files_t *files);


#endif /* _NGX_VAANI_SPOOL_REFUSED_H_INCLUDED_ */
