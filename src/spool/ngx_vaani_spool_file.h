
/*
 * Private to src/spool: files and their names, as threads use them.
 */


#ifndef _NGX_VAANI_SPOOL_FILE_H_INCLUDED_
#define _NGX_VAANI_SPOOL_FILE_H_INCLUDED_


#include "ngx_vaani_spool.h"


/*
 * ngx_vaani_spool_names.c: names of segments, and listing a directory
 */

#define NGX_VAANI_SPOOL_NAME_LEN    (NGX_MAX_PATH + 1)

/* names with larger numbers are ignored */

#define NGX_VAANI_SPOOL_LAST        ((ngx_atomic_uint_t) -1 / 2)

/* the digits of a number in a name, padded so that names sort by number */

#define NGX_VAANI_SPOOL_DIGITS      20

/* the name of a segment, null-terminated */
void ngx_vaani_spool_segment_name(u_char *dst, ngx_str_t *dir,
    ngx_atomic_uint_t number);

/*
 * The directory of refused deliveries of the spool in dir, null-terminated.
 * It is written to name; *refused is the same as a string.
 */
void ngx_vaani_spool_refused_dir(u_char *name, ngx_str_t *dir,
    ngx_str_t *refused);

/*
 * Counts the bytes of files kept for an operator in the spool.
 */
void ngx_vaani_spool_measure(ngx_vaani_spool_t *spool);

/*
 * Lists the segments of a directory: the lowest number above another one, 0 if
 * there is none; the highest number of any name, including files put aside;
 * and the sum of the segments' sizes. highest and size may be NULL.  Returns
 * NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_list(ngx_str_t *dir, ngx_atomic_uint_t above,
    ngx_atomic_uint_t *lowest, ngx_atomic_uint_t *highest, off_t *size);

/* the number at the beginning of a name, 0 if there is none */
ngx_atomic_uint_t ngx_vaani_spool_number(char *name);


/*
 * ngx_vaani_spool_file.c: files, for use in threads.  Errors are in errno.
 */

/* flags for reading a file of unknown type */

#define NGX_VAANI_SPOOL_TO_READ     (O_RDONLY|O_NONBLOCK|O_NOFOLLOW)

int ngx_vaani_spool_open_to_read(u_char *name);

/*
 * Opens a file with a lock, LOCK_SH or LOCK_EX, and fills *st.  Does not wait:
 * returns -1 with errno EWOULDBLOCK if another process has the lock, or if the
 * name was removed or now belongs to another file.  Closing the descriptor
 * drops the lock.
 */
int ngx_vaani_spool_open_locked(u_char *name, int flags, int lock,
    struct stat *st);

/* the same for an open file: NGX_OK, or NGX_ERROR with that errno */
ngx_int_t ngx_vaani_spool_lock_file(int fd, u_char *name, int lock,
    struct stat *st);

/*
 * Whether a name is that of an open file; fills *st for the file.  Returns
 * NGX_OK, NGX_DECLINED if the name belongs to another file or to none, or
 * NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_is_named(int fd, u_char *name, struct stat *st);

/* reads size bytes, fewer only at the end of the file; their number, or -1 */
ssize_t ngx_vaani_spool_read_file(int fd, u_char *data, size_t size);

/* closes a file; errno is unchanged */
void ngx_vaani_spool_close_file(int fd);

/*
 * Opens the current segment for appending, with a shared lock, and moves on to
 * the next one if this one is full or sealed. full is 1 to move on in any
 * case.  Returns the descriptor and its number in *number, or -1.
 */
int ngx_vaani_spool_open_current(ngx_vaani_spool_t *spool,
    ngx_atomic_uint_t *number, ngx_uint_t full);

/* syncs a directory: names in it are durable afterwards */
ngx_int_t ngx_vaani_spool_sync_dir(u_char *dir);

/* appends a record as a whole; returns NGX_OK or NGX_ERROR */
ngx_int_t ngx_vaani_spool_write(int fd, u_char *data, size_t len);

/*
 * The same for a file with only one writer, which ends at end.  On NGX_ERROR
 * nothing of the record remains.
 */
ngx_int_t ngx_vaani_spool_write_alone(int fd, u_char *data, size_t len,
    off_t end);

/*
 * Renames a segment, appending ".bad", or ".<number>.bad" if that name exists.
 * Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_rename_bad(u_char *segment);

/*
 * Renames a locked segment to the number after the current one, so that it is
 * the last one; *number is the new number.  Returns NGX_OK or NGX_ERROR.
 */
ngx_int_t ngx_vaani_spool_rename_last(ngx_vaani_spool_t *spool, u_char *segment,
    ngx_atomic_uint_t *number);

/*
 * Appends to a file, which is created if needed, and syncs it, all or nothing.
 * Tries again if a tool has the file locked.
 */
ngx_int_t ngx_vaani_spool_append_file(u_char *name, u_char *data, size_t len);

/* renames a file; never replaces another one */
ngx_int_t ngx_vaani_spool_rename_new(u_char *from, u_char *to);


#endif /* _NGX_VAANI_SPOOL_FILE_H_INCLUDED_ */
