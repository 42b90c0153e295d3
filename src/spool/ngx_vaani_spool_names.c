
#include "ngx_vaani_spool_private.h"


/*
 * The names of segments, and listing a directory.
 */


#define NGX_VAANI_SPOOL_SUFFIX      ".log"


static ngx_atomic_uint_t ngx_vaani_spool_segment_number(char *name);


void
ngx_vaani_spool_segment_name(u_char *dst, ngx_str_t *dir,
    ngx_atomic_uint_t number)
{
    (void) ngx_snprintf(dst, NGX_VAANI_SPOOL_NAME_LEN, "%V/%020uA%s%Z", dir,
                        number, NGX_VAANI_SPOOL_SUFFIX);
}


/*
 * The number of a segment, 0 if the name is not one of a segment.
 */

static ngx_atomic_uint_t
ngx_vaani_spool_segment_number(char *name)
{
    if (ngx_strlen(name)
        != NGX_VAANI_SPOOL_DIGITS + sizeof(NGX_VAANI_SPOOL_SUFFIX) - 1
        || ngx_strcmp(name + NGX_VAANI_SPOOL_DIGITS, NGX_VAANI_SPOOL_SUFFIX)
           != 0)
    {
        return 0;
    }

    return ngx_vaani_spool_number(name);
}


ngx_atomic_uint_t
ngx_vaani_spool_number(char *name)
{
    ngx_uint_t         n;
    ngx_atomic_uint_t  number, next;

    number = 0;

    for (n = 0; n < NGX_VAANI_SPOOL_DIGITS; n++) {

        if (name[n] < '0' || name[n] > '9') {
            return 0;
        }

        next = number * 10 + (name[n] - '0');

        if (next / 10 != number) {
            return 0;
        }

        number = next;
    }

    return number;
}


void
ngx_vaani_spool_refused_dir(u_char *name, ngx_str_t *dir, ngx_str_t *refused)
{
    u_char  *p;

    p = ngx_snprintf(name, NGX_VAANI_SPOOL_NAME_LEN, "%V/refused%Z", dir);

    refused->data = name;
    refused->len = p - name - 1;
}


ngx_int_t
ngx_vaani_spool_list(ngx_str_t *dir, ngx_atomic_uint_t above,
    ngx_atomic_uint_t *lowest, ngx_atomic_uint_t *highest, off_t *size)
{
    DIR                *d;
    u_char              name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_err_t           err;
    struct stat         st;
    struct dirent      *de;
    ngx_atomic_uint_t   number;

    *lowest = 0;

    if (highest) {
        *highest = 0;
    }

    if (size) {
        *size = 0;
    }

    d = opendir((char *) dir->data);

    if (d == NULL) {
        return NGX_ERROR;
    }

    for ( ;; ) {
        errno = 0;
        de = readdir(d);

        if (de == NULL) {
            break;
        }

        /* the number of a file put aside is not used again */

        number = ngx_vaani_spool_number(de->d_name);

        if (highest && number > *highest
            && number <= NGX_VAANI_SPOOL_LAST)
        {
            *highest = number;
        }

        number = ngx_vaani_spool_segment_number(de->d_name);

        if (number == 0) {
            continue;
        }

        if (number > above && (*lowest == 0 || number < *lowest)) {
            *lowest = number;
        }

        if (size) {
            ngx_vaani_spool_segment_name(name, dir, number);

            if (stat((char *) name, &st) == 0) {
                *size += st.st_size;
            }
        }
    }

    err = errno;

    (void) closedir(d);

    errno = err;

    return err ? NGX_ERROR : NGX_OK;
}


void
ngx_vaani_spool_measure(ngx_vaani_spool_t *spool)
{
    DIR                       *d;
    off_t                      bad, dead, refused;
    size_t                     len;
    u_char                     name[NGX_VAANI_SPOOL_NAME_LEN];
    ngx_str_t                  dir;
    ngx_uint_t                 is_bad;
    struct stat                st;
    struct dirent             *de;
    ngx_atomic_uint_t          lowest;
    ngx_vaani_spool_shared_t  *shared;

    shared = ngx_vaani_spool_shared(spool);

    d = opendir((char *) spool->path->name.data);

    if (d == NULL) {
        return;
    }

    bad = 0;
    dead = 0;

    while ((de = readdir(d)) != NULL) {
        len = ngx_strlen(de->d_name);

        is_bad = (len > 4 && ngx_strcmp(de->d_name + len - 4, ".bad") == 0);

        if (!is_bad && ngx_strcmp(de->d_name, "dead-letters") != 0) {
            continue;
        }

        if (fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) == -1
            || !S_ISREG(st.st_mode))
        {
            continue;
        }

        if (is_bad) {
            bad += st.st_size;

        } else {
            dead += st.st_size;
        }
    }

    (void) closedir(d);

    shared->bad_bytes = bad;
    shared->dead_letters_bytes = dead;

    ngx_vaani_spool_refused_dir(name, &spool->path->name, &dir);

    if (ngx_vaani_spool_list(&dir, 0, &lowest, NULL, &refused) != NGX_OK) {
        refused = 0;
    }

    shared->refused_bytes = refused;
}
