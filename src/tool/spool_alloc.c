
#include <stdlib.h>

#include "vaani_spool.h"


void *
vaani_spool_alloc(void *ctx, size_t size)
{
    vaani_spool_t        *spool = ctx;
    vaani_spool_block_t  *block;

    block = malloc(sizeof(vaani_spool_block_t) + size);

    if (block == NULL) {
        return NULL;
    }

    block->next = spool->blocks;
    block->size = size;
    spool->blocks = block;

    return block + 1;
}


void
vaani_spool_free(vaani_spool_t *spool)
{
    vaani_spool_block_t  *block;

    while (spool->blocks) {
        block = spool->blocks;
        spool->blocks = block->next;
        free(block);
    }
}
