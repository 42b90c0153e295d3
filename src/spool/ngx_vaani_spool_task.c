
#include "ngx_vaani_spool_private.h"


#define NGX_VAANI_SPOOL_GUARD       60000


static void ngx_vaani_spool_task_done(ngx_event_t *ev);
static void ngx_vaani_spool_task_guard(ngx_event_t *ev);
#if (NGX_THREADS)
static void ngx_vaani_spool_task_thread(void *data, ngx_log_t *log);
#endif


void
ngx_vaani_spool_task_init(ngx_vaani_spool_task_t *task,
    ngx_err_t (*handler)(void *data), void (*done)(void *data), void *data,
    ngx_log_t *log)
{
    ngx_event_t  *ev;

    ngx_memzero(task, sizeof(ngx_vaani_spool_task_t));

    task->handler = handler;
    task->done = done;
    task->data = data;

#if (NGX_THREADS)
    task->task.ctx = task;
    task->task.handler = ngx_vaani_spool_task_thread;
    ev = &task->task.event;
#else
    ev = &task->event;
#endif

    ev->handler = ngx_vaani_spool_task_done;
    ev->data = task;
    ev->log = log;

    task->guard.handler = ngx_vaani_spool_task_guard;
    task->guard.data = task;
    task->guard.log = log;
}


void
ngx_vaani_spool_task_post(ngx_vaani_spool_t *spool,
    ngx_vaani_spool_task_t *task)
{
    task->busy = 1;
    task->failed = 0;
    task->err = 0;

#if (NGX_THREADS)

    if (ngx_thread_task_post(spool->thread_pool, &task->task) != NGX_OK) {
        task->failed = 1;
        task->err = EAGAIN;
        ngx_post_event(&task->task.event, &ngx_posted_events);
    }

#else

    task->err = task->handler(task->data);
    ngx_post_event(&task->event, &ngx_posted_events);

#endif

    ngx_add_timer(&task->guard, NGX_VAANI_SPOOL_GUARD);
}


#if (NGX_THREADS)

static void
ngx_vaani_spool_task_thread(void *data, ngx_log_t *log)
{
    ngx_vaani_spool_task_t  *task = data;

    task->err = task->handler(task->data);
}

#endif


static void
ngx_vaani_spool_task_done(ngx_event_t *ev)
{
    ngx_vaani_spool_task_t  *task;

    task = ev->data;
    task->busy = 0;

    ngx_del_timer(&task->guard);

    task->done(task->data);
}


/*
 * A worker that exits waits for timers, but not for threads.
 */

static void
ngx_vaani_spool_task_guard(ngx_event_t *ev)
{
    ngx_add_timer(ev, NGX_VAANI_SPOOL_GUARD);
}


void
ngx_vaani_spool_task_exit(ngx_vaani_spool_task_t *task)
{
    ngx_event_t  *ev;

#if (NGX_THREADS)
    ev = &task->task.event;
#else
    ev = &task->event;
#endif

    if (ev->posted) {
        ngx_delete_posted_event(ev);
    }

    if (task->guard.timer_set) {
        ngx_del_timer(&task->guard);
    }
}
