
#include "ngx_vaani_spool_private.h"

#include <grp.h>


#define NGX_VAANI_SPOOL_GROUPS  256


static ngx_int_t ngx_vaani_spool_check_others(ngx_vaani_spool_t *spool,
    ngx_log_t *log);
static ngx_int_t ngx_vaani_spool_usable(ngx_vaani_spool_t *spool,
    ngx_core_conf_t *ccf, u_char **what);


/*
 * Creates the directory if it is missing.  The owner of an existing one is not
 * changed: root may test a configuration that another user runs.
 */

ngx_int_t
ngx_vaani_spool_prepare_dir(ngx_vaani_spool_t *spool, ngx_log_t *log)
{
    u_char           *what, *name;
    ngx_err_t         err;
    struct stat       st;
    ngx_core_conf_t  *ccf;

    name = spool->path->name.data;

    ccf = (ngx_core_conf_t *) ngx_get_conf(spool->cycle->conf_ctx,
                                           ngx_core_module);

    if (mkdir((char *) name, 0700) == 0) {

        if (geteuid() == 0
            && chown((char *) name, ccf->user, ccf->group) == -1)
        {
            err = ngx_errno;
            (void) rmdir((char *) name);

            ngx_log_error(NGX_LOG_EMERG, log, err,
                          "vaani: chown() of the spool \"%s\" failed", name);
            return NGX_ERROR;
        }

    } else if (ngx_errno != EEXIST) {

        /* a read-only file system reports this first */

        if (stat((char *) name, &st) == -1) {
            ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                          "vaani: cannot create the spool \"%s\"", name);
            return NGX_ERROR;
        }
    }

    if (stat((char *) name, &st) == -1) {
        ngx_log_error(NGX_LOG_EMERG, log, ngx_errno,
                      "vaani: stat() of the spool \"%s\" failed", name);
        return NGX_ERROR;
    }

    if (!S_ISDIR(st.st_mode)) {
        ngx_log_error(NGX_LOG_EMERG, log, ENOTDIR,
                      "vaani: the spool \"%s\" is not a directory", name);
        return NGX_ERROR;
    }

    spool->dev = st.st_dev;
    spool->ino = st.st_ino;

    if (ngx_vaani_spool_check_others(spool, log) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_vaani_spool_usable(spool, ccf, &what) != NGX_OK) {
        err = ngx_errno;

        if (geteuid() == 0) {
            ngx_log_error(NGX_LOG_EMERG, log, err,
                          "vaani: the spool \"%s\" is not accessible to the "
                          "worker user \"%s\"%s%s", name, ccf->username,
                          what ? " because of its file " : "",
                          what ? (char *) what : "");
        } else {
            ngx_log_error(NGX_LOG_EMERG, log, err,
                          "vaani: cannot read and write the spool "
                          "\"%s\"%s%s", name,
                          what ? " because of its file " : "",
                          what ? (char *) what : "");
        }

        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * If the directory is created now, two names of it were not recognized before.
 */

static ngx_int_t
ngx_vaani_spool_check_others(ngx_vaani_spool_t *spool, ngx_log_t *log)
{
    ngx_uint_t           n;
    ngx_vaani_spool_t  **other;

    other = spool->all->elts;

    for (n = 0; n < spool->all->nelts; n++) {

        if (other[n] != spool && other[n]->ino == spool->ino
            && other[n]->dev == spool->dev)
        {
            ngx_log_error(NGX_LOG_EMERG, log, 0,
                          "vaani: the spools \"%V\" and \"%V\" are the same "
                          "directory", &other[n]->path->name,
                          &spool->path->name);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * Checks access as the user of the workers.  *what is the file that cannot be
 * used, or NULL for the directory.
 */

static ngx_int_t
ngx_vaani_spool_usable(ngx_vaani_spool_t *spool, ngx_core_conf_t *ccf,
    u_char **what)
{
    int          fd, ngroups;
    gid_t        group, groups[NGX_VAANI_SPOOL_GROUPS];
    ngx_err_t    err;
    ngx_int_t    rc;
    ngx_uint_t   n, as_user;

    static char  *files[] = {
        "lock", "dead-letters", "refused", "erased", NULL
    };

    *what = NULL;
    as_user = 0;
    group = getegid();
    ngroups = 0;

    if (geteuid() == 0 && ccf->user != 0) {
        ngroups = getgroups(NGX_VAANI_SPOOL_GROUPS, groups);

        if (ngroups == -1) {
            return NGX_ERROR;
        }

        (void) initgroups(ccf->username, ccf->group);

        if (setegid(ccf->group) == -1 || seteuid(ccf->user) == -1) {

            /* a container may forbid it: then the workers cannot either */

            err = ngx_errno;
            rc = NGX_ERROR;
            goto restore;
        }

        as_user = 1;
    }

    err = 0;
    rc = NGX_OK;

    fd = open((char *) spool->path->name.data,
              O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (fd == -1
        || faccessat(fd, ".", R_OK|W_OK|X_OK, AT_EACCESS) == -1)
    {
        err = ngx_errno;
        rc = NGX_ERROR;
    }

    for (n = 0; rc == NGX_OK && files[n]; n++) {

        if (faccessat(fd, files[n], R_OK|W_OK, AT_EACCESS) == -1
            && ngx_errno != ENOENT)
        {
            err = ngx_errno;
            rc = NGX_ERROR;
            *what = (u_char *) files[n];
        }
    }

    if (fd != -1) {
        (void) close(fd);
    }

restore:

    if (as_user && seteuid(0) == -1) {
        return NGX_ERROR;
    }

    if (geteuid() == 0 && ccf->user != 0
        && (setegid(group) == -1 || setgroups(ngroups, groups) == -1)
        && rc == NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_set_errno(err);

    return rc;
}
