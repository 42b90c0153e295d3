
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <openssl/crypto.h>

#include "vaani_spool.h"


#define VAANI_SPOOL_MAX_FILE   4096


static int vaani_spool_read_lines(const char *path, char *text);
static int vaani_spool_find_line(const char *path, char *text, char *line,
    size_t size);


int
vaani_spool_first_line(const char *path, char *line, size_t size)
{
    int   rc;
    char  text[VAANI_SPOOL_MAX_FILE + 1];

    rc = vaani_spool_read_lines(path, text);

    if (rc == 0) {
        rc = vaani_spool_find_line(path, text, line, size);
    }

    OPENSSL_cleanse(text, sizeof(text));

    return rc;
}


static int
vaani_spool_read_lines(const char *path, char *text)
{
    int      err;
    FILE    *file;
    size_t   len;

    file = fopen(path, "re");

    if (file == NULL) {
        fprintf(stderr, "vaani-spool: %s: %s\n", path, strerror(errno));
        return -1;
    }

    /* stdio must not keep a copy of it */

    setbuf(file, NULL);

    len = fread(text, 1, VAANI_SPOOL_MAX_FILE + 1, file);
    err = ferror(file) ? errno : 0;

    (void) fclose(file);

    if (err) {
        fprintf(stderr, "vaani-spool: %s: %s\n", path, strerror(err));
        return -1;
    }

    if (len > VAANI_SPOOL_MAX_FILE) {
        fprintf(stderr, "vaani-spool: %s: the file is longer than %d bytes\n",
                path, VAANI_SPOOL_MAX_FILE);
        return -1;
    }

    if (memchr(text, '\0', len)) {
        fprintf(stderr, "vaani-spool: %s: the file contains a null byte; save "
                "it as UTF-8\n", path);
        return -1;
    }

    text[len] = '\0';

    return 0;
}


static int
vaani_spool_find_line(const char *path, char *text, char *line, size_t size)
{
    char      *p, *end;
    size_t     len;
    unsigned   n;

    n = 0;

    for (p = text; p; p = end) {
        n++;
        end = strchr(p, '\n');

        if (end) {
            *end++ = '\0';
        }

        len = vaani_spool_trim(p);

        /* a comment; the blank after an empty one was dropped */

        if (len == 0
            || (p[0] == '#' && (len == 1 || p[1] == ' ' || p[1] == '\t')))
        {
            continue;
        }

        if (len > 1 && (p[0] == '"' || p[0] == '\'') && p[len - 1] == p[0]) {
            fprintf(stderr, "vaani-spool: %s:%u: remove the quotes around the "
                    "secret\n", path, n);
            return -1;
        }

        if (len >= size) {
            fprintf(stderr, "vaani-spool: %s:%u: the secret is too long\n",
                    path, n);
            return -1;
        }

        memcpy(line, p, len + 1);

        return 0;
    }

    fprintf(stderr, "vaani-spool: %s: the file contains no secret\n", path);

    return -1;
}


size_t
vaani_spool_trim(char *line)
{
    char    *p;
    size_t   len;

    p = line;

    for ( ;; ) {
        p += strspn(p, " \t\r\n");

        if (strncmp(p, "\xef\xbb\xbf", 3) != 0) {
            break;
        }

        p += 3;
    }

    len = strlen(p);

    for ( ;; ) {

        if (len && strchr(" \t\r\n", p[len - 1])) {
            len--;

        } else if (len >= 3 && memcmp(p + len - 3, "\xef\xbb\xbf", 3) == 0) {
            len -= 3;

        } else {
            break;
        }
    }

    memmove(line, p, len);
    line[len] = '\0';

    return len;
}
