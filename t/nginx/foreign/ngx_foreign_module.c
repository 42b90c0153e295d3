
/*
 * A module that brings a hiredis of its own, and doesn't hide it, as nchan:
 * functions of the same names, with another idea of what a reader is.
 */


#include <ngx_config.h>
#include <ngx_core.h>


void *redisReaderCreate(void);
int redisReaderFeed(void *reader, const char *buf, size_t len);
int redisReaderGetReply(void *reader, void **reply);
void redisReaderFree(void *reader);
void freeReplyObject(void *reply);

static ngx_int_t ngx_foreign_init_process(ngx_cycle_t *cycle);


static ngx_core_module_t  ngx_foreign_module_ctx = {
    ngx_string("foreign"),
    NULL,
    NULL
};


ngx_module_t  ngx_foreign_module = {
    NGX_MODULE_V1,
    &ngx_foreign_module_ctx,               /* module context */
    NULL,                                  /* module directives */
    NGX_CORE_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_foreign_init_process,              /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    NULL,                                  /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static uintptr_t  ngx_foreign_reader[64];


static ngx_int_t
ngx_foreign_init_process(ngx_cycle_t *cycle)
{
    void  *reader;

    reader = redisReaderCreate();

    if (reader == ngx_foreign_reader) {
        ngx_log_error(NGX_LOG_NOTICE, cycle->log, 0,
                      "foreign: has its own hiredis");

    } else {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, 0,
                      "foreign: has the hiredis of another module");
    }

    return NGX_OK;
}


void *
redisReaderCreate(void)
{
    return ngx_foreign_reader;
}


int
redisReaderFeed(void *reader, const char *buf, size_t len)
{
    ngx_abort();
}


int
redisReaderGetReply(void *reader, void **reply)
{
    ngx_abort();
}


void
redisReaderFree(void *reader)
{
    ngx_abort();
}


void
freeReplyObject(void *reply)
{
    ngx_abort();
}
