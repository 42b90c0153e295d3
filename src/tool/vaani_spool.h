
/*
 * vaani-spool: shared by all parts.
 */


#ifndef _VAANI_SPOOL_H_INCLUDED_
#define _VAANI_SPOOL_H_INCLUDED_


#include <dirent.h>
#include <stdio.h>
#include <sys/types.h>

#include <hiredis/hiredis.h>

#include "../core/vaani_body.h"
#include "../core/vaani_record.h"
#include "../spool/vaani_journal.h"


typedef enum {
    VAANI_SPOOL_LIST = 0,
    VAANI_SPOOL_VERIFY,
    VAANI_SPOOL_RESEND,             /* events, to Redis */
    VAANI_SPOOL_POST,               /* refused deliveries, to an endpoint */
    VAANI_SPOOL_ERASE
} vaani_spool_mode_e;


#define VAANI_SPOOL_PATH_LEN      4096
#define VAANI_SPOOL_HOST_LEN      256
#define VAANI_SPOOL_PASSWORD_LEN  1024

/* size of reads and writes */

#define VAANI_SPOOL_CHUNK         65536

/* the file of tombstones in a spool */

#define VAANI_SPOOL_ERASED        "erased"

/* how often and at what interval erase tries a lock: 5 s */

#define VAANI_SPOOL_ATTEMPTS      250
#define VAANI_SPOOL_APART         20000000L     /* ns; also of readers */


/* of "resend" */

typedef struct {
    const char           *to;
    const char           *secret_file;
    const char           *format;
    const char           *header_file;

    const char           *cacert;
    const char           *user;
    const char           *password_file;
    unsigned              progress;
} vaani_spool_options_t;


typedef enum {
    VAANI_SPOOL_WAITING = 0,        /* and all others */
    VAANI_SPOOL_KEPT,               /* Redis has had the events */
    VAANI_SPOOL_TOMBSTONES,
    VAANI_SPOOL_ASIDE               /* nothing deletes it in time */
} vaani_spool_kind_e;


typedef struct {
    char                 *path;
    vaani_spool_kind_e    kind;
    unsigned              found;        /* in a directory */
} vaani_spool_file_t;


typedef struct {
    u_char               *room;
    size_t                len;
    uint64_t              erased_at;    /* Unix time, ms */
} vaani_spool_tombstone_t;


/* a connection, with TLS or without */

typedef struct {
    int                   fd;
    struct ssl_st        *ssl;          /* NULL: without */
    struct ssl_ctx_st    *ctx;
    const char           *why;          /* it failed */
    char                  text[256];
} vaani_spool_conn_t;


/* the address of Redis */

typedef struct {
    unsigned              tls;
    char                  host[VAANI_SPOOL_HOST_LEN];   /* or the path of a unix
                                                           socket */
    char                  port[8];                      /* "": a unix socket */
    char                  db[16];                       /* "": 0 */
} vaani_spool_url_t;


/* whether a record belongs to the room to be erased */

typedef enum {
    VAANI_SPOOL_OTHER_ROOM = 0,
    VAANI_SPOOL_THE_ROOM,
    VAANI_SPOOL_NO_ROOM,                    /* that could be read */
    VAANI_SPOOL_NO_MEMORY
} vaani_spool_verdict_e;


/* freed after each record */

typedef struct vaani_spool_block_s  vaani_spool_block_t;

struct vaani_spool_block_s {
    vaani_spool_block_t  *next;
    size_t                size;
};


/*
 * A file that is read record by record: at most one of them is in memory.
 */

typedef struct {
    int                   fd;
    off_t                 pos;
    off_t                 size;
    u_char               *data;         /* of the record, NULL: none */
    unsigned              sent;         /* the record was sent again */
} vaani_spool_reader_t;


/* in addition to those of the journal */

#define VAANI_SPOOL_ERROR      3


typedef struct vaani_spool_target_s  vaani_spool_target_t;
typedef struct vaani_spool_redis_s   vaani_spool_redis_t;


typedef struct {
    vaani_spool_mode_e        mode;
    vaani_spool_redis_t      *redis;
    vaani_spool_target_t     *target;       /* of refused deliveries */

    vaani_spool_block_t      *blocks;
    vaani_alloc_t             alloc;

    vaani_spool_file_t       *files;
    size_t                    nfiles;
    size_t                    nalloc;
    vaani_spool_kind_e        kind;         /* of the file that is read */

    char                     *erased_path;  /* of the tombstones */
    vaani_spool_tombstone_t  *tombs;        /* sorted */
    size_t                    ntombs;
    size_t                    ntombs_alloc;

    vaani_str_t               room;         /* to be erased */
    uint64_t                  erased_at;    /* Unix time, ms */
    unsigned                  unreadable;   /* unreadable ones as well */

    unsigned                  progress;     /* its lines: 0 none, 1 for long
                                               runs, 2 always */
    off_t                     total;        /* bytes of all files */
    off_t                     done;
    double                    begun;        /* s */
    double                    told;

    unsigned long             nrecords;     /* of events */
    unsigned long             nwaiting;
    unsigned long             nkept;
    unsigned long             nletters;
    unsigned long             nrefusals;
    unsigned long             ntombstones;
    unsigned long             nbad;
    unsigned long             nsent;
    unsigned long             nduplicates;
    unsigned long             nunpublished;
    unsigned long             nrefused;
    unsigned long             nexpired;     /* not sent, like the next two */
    unsigned long             nerased;
    unsigned long             nunknown;
    unsigned long             nlater;       /* received after the erasure */
    unsigned long             naside;       /* of the room, in .bad files */
    unsigned long             nunread;      /* records without a readable room,
                                               which stay, */
    unsigned long             ndamaged;     /* and damaged places, */
    unsigned long             nnamed;       /* which name the room */
    unsigned long             ndropped;     /* of both, erased */
    int                       failed;
    int                       broken;       /* nothing more can be sent */
} vaani_spool_t;


/* that of the file VERSION; the Makefile writes it */

extern const char  vaani_spool_version[];


/*
 * From the top down: a file calls only functions of files listed after it.
 */

/*
 * spool_options.c: parses the options of "resend" from argv[*i] on, and leaves
 * *i after them.  Returns 0, or -1 for wrong usage; the error was printed.
 */

int vaani_spool_options(vaani_spool_options_t *options, int argc, char **argv,
    int *i);

/* the option of "erase": whether it is given; *i is then after it */
unsigned vaani_spool_unreadable(int argc, char **argv, int *i);

/* says what is wrong with an argument; returns the exit status */
int vaani_spool_misuse(const char *what, const char *arg);


/*
 * spool_erase.c: the command "erase".  Returns 0, or -1 if nothing was erased,
 * after printing the error.
 */

int vaani_spool_erase(vaani_spool_t *spool, const char *dir,
    const char *room);


/*
 * spool_walk.c: the list of files.  Errors were printed, and spool->failed is
 * set.
 */

/* adds a file, or those of a directory, in their order */
void vaani_spool_add(vaani_spool_t *spool, const char *path);

/* reads the listed files */
void vaani_spool_run(vaani_spool_t *spool);


/*
 * spool_file.c: reads a file, record by record
 */

void vaani_spool_file(vaani_spool_t *spool, const vaani_spool_file_t *file);


/*
 * spool_record.c: lists, counts or sends a record
 */

void vaani_spool_record(vaani_spool_t *spool, const char *path,
    vaani_spool_reader_t *reader, vaani_journal_record_t *record);


/*
 * spool_rewrite.c: rewrites files without the erased records
 */

/* counts the erased and the unreadable records in spool */
void vaani_spool_rewrite(vaani_spool_t *spool, const char *path);

/* deletes copies of an interrupted run in a directory */
void vaani_spool_remove_copies(vaani_spool_t *spool, const char *path);


/*
 * spool_post.c: posts refused deliveries
 */

/*
 * Returns 0, or 1 if an option cannot be used, after printing the error.
 */
int vaani_spool_target(vaani_spool_t *spool,
    const vaani_spool_options_t *options);

/*
 * Posts a body as a new delivery.  Returns the status of the answer, or -1
 * with *why set.
 */
int vaani_spool_post(vaani_spool_target_t *target, const u_char *body,
    size_t len, const char **why);


/*
 * spool_redis.c: events to Redis.
 */

/* returns NULL if that failed, after printing the error */
vaani_spool_redis_t *vaani_spool_connect(const char *url,
    const vaani_spool_options_t *options);

void vaani_spool_disconnect(vaani_spool_redis_t *redis);

/*
 * Sends an event, possibly later; path must stay valid until the next
 * vaani_spool_drain().
 */
void vaani_spool_send(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    const vaani_delivery_t *delivery);

/* sends the remaining events, and reads all answers */
void vaani_spool_drain(vaani_spool_t *spool);


/*
 * spool_redis_url.c: returns 0, or -1 if the text is not a URL of Redis, after
 * printing the error.  *url must be all zeros before.
 */

int vaani_spool_redis_url(vaani_spool_url_t *url, const char *text);


/*
 * spool_room.c: the calls that a record belongs to
 */

/* of an accepted event; removes the header of record's content */
vaani_spool_verdict_e vaani_spool_event_verdict(vaani_spool_t *spool,
    vaani_journal_record_t *record);

/* of a refused delivery; a body with several calls belongs to each of them */
vaani_spool_verdict_e vaani_spool_delivery_verdict(vaani_spool_t *spool,
    const vaani_journal_record_t *record);

/* whether possibly damaged bytes contain the name of the room */
int vaani_spool_names(const vaani_spool_t *spool, const u_char *data,
    size_t len);

/* whether it is the room to be erased */
int vaani_spool_is_room(const vaani_spool_t *spool, const vaani_str_t *room);


/*
 * spool_tombstone.c: the file of tombstones in a spool
 */

/*
 * Adds one for spool->room to the directory, whose path has len bytes, and
 * stores its time in spool->erased_at.  Returns 0, or -1 on failure, after
 * printing the error.
 */
int vaani_spool_add_tombstone(vaani_spool_t *spool, const char *dir,
    size_t len);

/*
 * Reads the tombstones for a file, from its directory.  If they cannot be
 * read, sets spool->broken.
 */
void vaani_spool_load_tombstones(vaani_spool_t *spool, const char *path);

void vaani_spool_free_tombstones(vaani_spool_t *spool);

/* whether one of these tombstones covers it */
int vaani_spool_is_erased(const vaani_spool_t *spool, const vaani_str_t *room,
    uint64_t received_at);

/* Unix time, ms */
uint64_t vaani_spool_now(void);


/*
 * spool_reader.c: opens a regular file for reading.  Returns 0, or -1 with
 * errno set.
 */
int vaani_spool_open(vaani_spool_reader_t *reader, const char *path,
    int writable);

void vaani_spool_close(vaani_spool_reader_t *reader);

/*
 * Reads the next record; its content is valid until the next call.  Returns as
 * vaani_journal_next(), or VAANI_SPOOL_ERROR with errno set.  For bad bytes,
 * only record->offset and ->size are set.
 */
int vaani_spool_next(vaani_spool_reader_t *reader,
    vaani_journal_record_t *record);

#define VAANI_SPOOL_SETTLED    0        /* no writer, nothing was added */
#define VAANI_SPOOL_GROWN      1        /* there is more to be read */
#define VAANI_SPOOL_BUSY       2        /* nginx is using it */

/*
 * Checks whether the file has grown, at a moment without a writer.  The lock
 * for that is released at once, unless keep is set and the file has settled.
 */
int vaani_spool_settle(vaani_spool_reader_t *reader, int keep);

/*
 * The same for a file whose writer holds its lock all the time: checks whether
 * the bytes at its end have grown.
 */
int vaani_spool_watch(vaani_spool_reader_t *reader);

/* reads len bytes.  Returns 0, or -1 with errno set. */
int vaani_spool_read(int fd, u_char *dst, size_t len, off_t at);

/*
 * Marks the record at that offset as sent again.  It writes one byte, so that
 * after a crash the record is either unchanged or marked.  Returns 0, or -1
 * with errno set.
 */
int vaani_spool_mark(vaani_spool_reader_t *reader, size_t offset);


/*
 * spool_name.c: the meaning of a file's name, without its directory
 */

const char *vaani_spool_name(const char *path);
vaani_spool_kind_e vaani_spool_kind(const char *name);

/* whether nginx writes files of that name to a spool */
int vaani_spool_is_ours(const struct dirent *entry);

/* whether nothing deletes the file in time */
int vaani_spool_is_aside(const char *name, unsigned refused);

/*
 * Writes the name of a waiting segment after it becomes a kept one to path, of
 * VAANI_SPOOL_PATH_LEN bytes.  Returns 0, or -1 if there is none.
 */
int vaani_spool_renamed(vaani_spool_t *spool, const vaani_spool_file_t *file,
    char *path);


/*
 * spool_dir.c: directories.  path and dir have VAANI_SPOOL_PATH_LEN bytes.
 */

/* returns 0, or -1 if that is too long, after printing the error */
int vaani_spool_join(vaani_spool_t *spool, char *path, const char *dir,
    const char *name);

/* writes the directory of a file to dir.  Returns 0, or -1 with errno set. */
int vaani_spool_parent(const char *path, char *dir);

/*
 * Locks a directory against other tools that change its files, but not against
 * nginx.  Waits for them, and says so.  Returns a descriptor that drops the
 * lock when it is closed, or -1 with errno set.
 */
int vaani_spool_lock_dir(const char *path, int operation);

/* returns 0, or -1 with errno set */
int vaani_spool_sync_dir(const char *dir);


/*
 * spool_print.c: prints an event on one line.
 *
 * since (Unix time, s) and tries: of an event that could not be delivered
 * while others could; tries is 0 for others. kept: Redis has had it.
 */
void vaani_spool_print(const char *path, const vaani_journal_record_t *record,
    const vaani_delivery_t *delivery, const vaani_event_t *event,
    const vaani_str_t *reason, uint64_t since, unsigned tries,
    unsigned kept);

/* event: the readable part of the body; its name and room may be NULL */
void vaani_spool_print_refusal(const char *path,
    const vaani_journal_record_t *record, const vaani_event_t *event,
    uint64_t received_at, const vaani_str_t *reason);


void vaani_spool_print_tombstone(const char *path,
    const vaani_journal_record_t *record, const vaani_str_t *room,
    uint64_t erased_at);

/* a name from outside; it must not control a terminal */
void vaani_spool_print_str(const vaani_str_t *str);

/* a Unix time in ms */
void vaani_spool_print_time(uint64_t time);

void vaani_spool_count(unsigned long n, const char *one, const char *many);

/* prints an error and sets spool->failed */
void vaani_spool_complain(vaani_spool_t *spool, const char *path,
    const char *why);

/* bytes that are no record */
void vaani_spool_bad(vaani_spool_t *spool, const char *path,
    const vaani_journal_record_t *record);

/* progress in bytes; the first call marks the beginning */
void vaani_spool_progress(vaani_spool_t *spool, size_t size);


/*
 * spool_secret.c: reads the first secret of a file as nginx does: blanks and
 * byte order marks at the ends, empty lines and comments are ignored.  Returns
 * 0, or -1 on failure, after printing the error.
 */
int vaani_spool_first_line(const char *path, char *line, size_t size);

/* removes blanks and byte order marks at the ends; returns the length */
size_t vaani_spool_trim(char *line);


/*
 * spool_net.c: connects to a port of a host or, without a port, to a unix
 * socket; timeout (s) is also that of each read and write.  Returns a
 * descriptor, or -1 with *why set.
 */
int vaani_spool_dial(const char *host, const char *port, int timeout,
    const char **why);

/*
 * On failure, all functions below return -1 with conn->why set; the connection
 * is then unusable.
 */

/*
 * Starts TLS on a connection.  The certificate must be for host, and of a CA
 * in the file or, without a file, of the system.
 */
int vaani_spool_start_tls(vaani_spool_conn_t *conn, const char *host,
    const char *cacert);

int vaani_spool_write(vaani_spool_conn_t *conn, const void *data, size_t len);
ssize_t vaani_spool_receive(vaani_spool_conn_t *conn, void *data, size_t size);

void vaani_spool_hang_up(vaani_spool_conn_t *conn);


/*
 * spool_alloc.c: memory of spool->alloc, which is freed all at once
 */

void *vaani_spool_alloc(void *ctx, size_t size);
void vaani_spool_free(vaani_spool_t *spool);


#endif /* _VAANI_SPOOL_H_INCLUDED_ */
