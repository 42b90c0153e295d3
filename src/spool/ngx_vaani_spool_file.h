
/*
 * Private to src/spool: files and their names, as threads use them.
 */


#ifndef _NGX_VAANI_SPOOL_FILE_H_INCLUDED_
#define _NGX_VAANI_SPOOL_FILE_H_INCLUDED_


#include "ngx_vaani_spool.h"


/*
 * ngx_vaani_spool_names.c: names, and what a directory has of them
 */

#define NGX_VAANI_SPOOL_NAME_LEN    (NGX_MAX_PATH + 1)

/* a larger number is none of ours */

#define NGX_VAANI_SPOOL_LAST        ((ngx_atomic_uint_t) -1 / 2)

/* the digits of a number in a name, so many that names sort as it does */

#define NGX_VAANI_SPOOL_DIGITS      20

/* the name of a segment, null-terminated */
void ngx_vaani_spool_segment_name(u_char *dst, ngx_str_t *dir,
    ngx_atomic_uint_t number);

/*
 * The directory of refused deliveries of the spool in dir, null-terminated:
 * name is where it's written, *refused it as a string.
 */
void ngx_vaani_spool_refused_dir(u_char *name, ngx_str_t *dir,
    ngx_str_t *refused);

/*
 * Counts the bytes of what is kept for an operator in the spool.
 */
void ngx_vaani_spool_measure(ngx_vaani_spool_t *spool);

/*
 * Looks for the segments of a directory: the lowest number above another one, 0
 * if there is none, the highest one that any name begins with, also of what was
 * put aside, and the sum of the segments' sizes.  highest and size may be NULL.
 * Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_list(ngx_str_t *dir, ngx_atomic_uint_t above,
    ngx_atomic_uint_t *lowest, ngx_atomic_uint_t *highest, off_t *size);

/* the number that a name begins with, 0 if it doesn't */
ngx_atomic_uint_t ngx_vaani_spool_number(char *name);


/*
 * ngx_vaani_spool_file.c: files, as threads use them.  Errors are in errno.
 */

/* flags for a file that may be anything, to read it */

#define NGX_VAANI_SPOOL_TO_READ     (O_RDONLY|O_NONBLOCK|O_NOFOLLOW)

int ngx_vaani_spool_open_to_read(u_char *name);

/*
 * Opens a file with a lock, LOCK_SH or LOCK_EX, and fills *st.  Doesn't wait:
 * returns -1 with errno EWOULDBLOCK if somebody else has the lock, or if the
 * name is another file's by now, or none's.  The lock is dropped with the
 * descriptor.
 */
int ngx_vaani_spool_open_locked(u_char *name, int flags, int lock,
    struct stat *st);

/* the same for a file that is open: NGX_OK, or NGX_ERROR with that errno */
ngx_int_t ngx_vaani_spool_lock_file(int fd, u_char *name, int lock,
    struct stat *st);

/*
 * Whether a name is that of an open file, which *st is filled for.  Returns
 * NGX_OK, NGX_DECLINED if it's that of another one or of none, or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_is_named(int fd, u_char *name, struct stat *st);

/* reads size bytes, or fewer at the end of the file; their number, or -1 */
ssize_t ngx_vaani_spool_read_file(int fd, u_char *data, size_t size);

/* closes a file; errno stays */
void ngx_vaani_spool_close_file(int fd);

/*
 * Opens the current segment to append to it, with a shared lock, and moves on
 * to the next one if this one is full or sealed.  full is 1 to move on in any
 * case.  Returns the descriptor and its number in *number, or -1.
 */
int ngx_vaani_spool_open_current(ngx_vaani_spool_t *spool,
    ngx_atomic_uint_t *number, ngx_uint_t full);

/* syncs a directory: names in it are durable afterwards */
ngx_int_t ngx_vaani_spool_sync_dir(u_char *dir);

/* appends a record as a whole; returns NGX_OK or NGX_ERROR */
ngx_int_t ngx_vaani_spool_write(int fd, u_char *data, size_t len);

/*
 * The same for a file that nobody else appends to meanwhile, and that ends at
 * end: on NGX_ERROR nothing of the record stays.
 */
ngx_int_t ngx_vaani_spool_write_alone(int fd, u_char *data, size_t len,
    off_t end);

/*
 * Gives a segment another name, that of it with ".bad", or with a number before
 * that if there is such a file.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_rename_bad(u_char *segment);

/*
 * Gives a segment, whose lock is held, the number behind the current one, so
 * that it is the last one; *number is it.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_rename_last(ngx_vaani_spool_t *spool, u_char *segment,
    ngx_atomic_uint_t *number);

/*
 * Appends to a file, made if needed, and syncs it, all or nothing, while no
 * tool has it locked to look for the end of it.
 */
ngx_int_t ngx_vaani_spool_append_file(u_char *name, u_char *data, size_t len);

/* renames a file; nothing that is there is replaced */
ngx_int_t ngx_vaani_spool_rename_new(u_char *from, u_char *to);


#endif /* _NGX_VAANI_SPOOL_FILE_H_INCLUDED_ */
