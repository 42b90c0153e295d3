
#include <string.h>

#include "vaani_utf8.h"


/*
 * Uses only the compiler's vectors, and only instructions that every processor
 * of the architecture has: nothing is selected at run time.
 */

#if (VAANI_LITTLE_ENDIAN && !VAANI_NO_VECTORS                                 \
     && (defined __SSE2__ || defined __ARM_NEON))

#define VAANI_VECTORS          1
#define VAANI_VECTOR_LEN       16

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* signed, because SSE2 compares signed bytes */

typedef signed char  vaani_vector_t
    __attribute__((vector_size(VAANI_VECTOR_LEN)));

/* initializers: equal bytes; equal bytes with the highest bit flipped */

#define vaani_signed(byte)     ((byte) - ((byte) < 0x80 ? 0 : 0x100))
#define vaani_flipped(byte)    ((byte) - 0x80)


static inline unsigned vaani_vector_first(vaani_vector_t v, size_t *n);

/* if inlined, its constants would be loaded for each short string */

static const u_char *vaani_utf8_vectors(const u_char *p, const u_char *end)
    __attribute__((noinline));

#endif


#define VAANI_UTF8_ONES        0x0101010101010101ULL
#define VAANI_UTF8_HIGHS       0x8080808080808080ULL


static inline const u_char *vaani_utf8_ascii(const u_char *p,
    const u_char *end);


const u_char *
vaani_json_plain(const u_char *p, const u_char *end)
{
    return vaani_utf8_ascii(p, end);
}


const u_char *
vaani_utf8_text(const u_char *p, const u_char *end)
{
    size_t         n;
    const u_char  *start;

    start = p;

    for ( ;; ) {
        p = vaani_utf8_ascii(p, end);

        if (p == end || *p < 0x80) {
            return p;
        }

        /*
         * multibyte characters come in groups: most scripts have no ASCII
         * letters
         */

        do {
            n = vaani_utf8_len(p, end);

            if (n == 0) {
                return p;
            }

            p += n;

#if (VAANI_VECTORS)

            if (p - start >= 3 && end - p >= VAANI_VECTOR_LEN) {
                p = vaani_utf8_vectors(p, end);
            }

#else
            (void) start;
#endif

        } while (p < end && *p >= 0x80);
    }
}


size_t
vaani_utf8_copy(u_char *dst, const u_char *src, size_t len)
{
    size_t         n;
    const u_char  *slash;

#if (VAANI_VECTORS)

    size_t          first;
    vaani_vector_t  v;

    for (n = 0; len - n >= VAANI_VECTOR_LEN; n += VAANI_VECTOR_LEN) {
        memcpy(&v, src + n, VAANI_VECTOR_LEN);
        memcpy(dst + n, &v, VAANI_VECTOR_LEN);

        if (vaani_vector_first(v == '\\', &first)) {
            return n + first;
        }
    }

#else
    n = 0;
#endif

    slash = memchr(src + n, '\\', len - n);

    if (slash) {
        len = slash - src;
    }

    memcpy(dst + n, src + n, len - n);

    return len;
}


/*
 * Transcripts are long, and nearly all of their bytes are plain.  Therefore
 * many bytes are checked at a time.
 */

static inline const u_char *
vaani_utf8_ascii(const u_char *p, const u_char *end)
{
    uint64_t  w, quote, slash, special;

#if (VAANI_VECTORS)

    size_t          n;
    vaani_vector_t  v;

    for ( /* void */ ; end - p >= VAANI_VECTOR_LEN; p += VAANI_VECTOR_LEN) {
        memcpy(&v, p, VAANI_VECTOR_LEN);

        /* bytes of multibyte characters are negative; text is long */

        v = (v < 0x20) | (v == '"') | (v == '\\');

        if (__builtin_expect(vaani_vector_first(v, &n), 0)) {
            return p + n;
        }
    }

#endif

    while (end - p >= 8) {
        memcpy(&w, p, 8);

        quote = w ^ (VAANI_UTF8_ONES * '"');
        slash = w ^ (VAANI_UTF8_ONES * '\\');

        /*
         * A borrow can mark a plain byte above a special one, but never leaves
         * a special byte unmarked.
         */

        special = (w | (w - VAANI_UTF8_ONES * 0x20)
                   | (quote - VAANI_UTF8_ONES)
                   | (slash - VAANI_UTF8_ONES)) & VAANI_UTF8_HIGHS;

        if (special) {
#if (VAANI_LITTLE_ENDIAN)
            /* higher bits are later bytes: the first marked byte is correct */
            p += __builtin_ctzll(special) / 8;
#endif
            break;
        }

        p += 8;
    }

    while (p < end && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }

    return p;
}


/*
 * The length of the well-formed multibyte character (RFC 3629, section 4) at
 * p, or 0. The range of the second byte depends on the first one: this
 * excludes overlong forms, surrogates and code points over U+10FFFF.
 */

size_t
vaani_utf8_len(const u_char *p, const u_char *end)
{
    size_t  n, i;
    u_char  low, high;

    low = 0x80;
    high = 0xbf;

    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        n = 2;

    } else if (p[0] >= 0xe0 && p[0] <= 0xef) {
        n = 3;

        if (p[0] == 0xe0) {
            low = 0xa0;

        } else if (p[0] == 0xed) {
            high = 0x9f;
        }

    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        n = 4;

        if (p[0] == 0xf0) {
            low = 0x90;

        } else if (p[0] == 0xf4) {
            high = 0x8f;
        }

    } else {
        return 0;
    }

    if ((size_t) (end - p) < n || p[1] < low || p[1] > high) {
        return 0;
    }

    for (i = 2; i < n; i++) {
        if (p[i] < 0x80 || p[i] > 0xbf) {
            return 0;
        }
    }

    return n;
}


unsigned
vaani_utf8_has_control(const u_char *p, const u_char *end)
{
    if (memchr(p, 0x7f, end - p)) {
        return 1;
    }

    for (p = vaani_json_plain(p, end); p < end;
         p = vaani_json_plain(p + 1, end))
    {
        if (*p < 0x20 || (*p == 0xc2 && p[1] < 0xa0)) {
            return 1;
        }
    }

    return 0;
}


#if (VAANI_VECTORS)

/*
 * Continues at p, where a character begins, like vaani_utf8_text(), and stops
 * when less than a vector is left.  The three bytes before p are read, too.
 *
 * The allowed values of a byte follow from the three bytes before it, as in J.
 * Keiser and D. Lemire, "Validating UTF-8 In Less Than One Instruction Per
 * Byte" (2021).  They use table look-ups, for which some processors have no
 * instructions; this code compares instead.
 */

static const u_char *
vaani_utf8_vectors(const u_char *p, const u_char *end)
{
    size_t          n;
    vaani_vector_t  v, v1, v2, v3, follows, low, high, bad;

    do {
        memcpy(&v, p, VAANI_VECTOR_LEN);
        memcpy(&v1, p - 1, VAANI_VECTOR_LEN);
        memcpy(&v2, p - 2, VAANI_VECTOR_LEN);
        memcpy(&v3, p - 3, VAANI_VECTOR_LEN);

        /* the second byte of some characters has narrower bounds */

        low = ((v1 == vaani_signed(0xe0)) & (0xa0 ^ 0x80))
              | ((v1 == vaani_signed(0xf0)) & (0x90 ^ 0x80))
              | vaani_signed(0x80);

        high = ((v1 == vaani_signed(0xed)) & vaani_signed(0x9f ^ 0x7f))
               ^ ((v1 == vaani_signed(0xf4)) & vaani_signed(0x8f ^ 0x7f))
               ^ 0x7f;

        bad = (v < low) | (v > high);

        /* flipped bytes compare like unsigned ones */

        v1 ^= vaani_signed(0x80);
        v2 ^= vaani_signed(0x80);
        v3 ^= vaani_signed(0x80);

        follows = (v1 > vaani_flipped(0xbf)) | (v2 > vaani_flipped(0xdf))
                  | (v3 > vaani_flipped(0xef));

        bad |= follows ^ (v < vaani_signed(0xc0));

        /* bytes outside characters, and bytes that must be escaped */

        bad |= ((v & vaani_signed(0xfe)) == vaani_signed(0xc0))
               | (v == '"') | (v == '\\');

        v ^= vaani_signed(0x80);

        bad |= (v > vaani_flipped(0xf4)) | (v < vaani_flipped(0x20));

        if (vaani_vector_first(bad, &n)) {
            p += n;
            break;
        }

        p += VAANI_VECTOR_LEN;

    } while (end - p >= VAANI_VECTOR_LEN);

    /* back to the begin of a character that is cut off here */

    if (p[-1] >= 0xc0) {
        return p - 1;
    }

    if (p[-2] >= 0xe0) {
        return p - 2;
    }

    if (p[-3] >= 0xf0) {
        return p - 3;
    }

    return p;
}


/*
 * Whether there is a non-zero byte (they are 0 or -1); stores the index of the
 * first one in *n.
 */

static inline unsigned
vaani_vector_first(vaani_vector_t v, size_t *n)
{
#ifdef __SSE2__

    unsigned  mask;

    mask = (unsigned) _mm_movemask_epi8((__m128i) v);

    if (mask == 0) {
        return 0;
    }

    *n = (size_t) __builtin_ctz(mask);

    return 1;

#else

    uint64_t  w[2];

    memcpy(w, &v, VAANI_VECTOR_LEN);

    if ((w[0] | w[1]) == 0) {
        return 0;
    }

    *n = (size_t) (w[0] ? __builtin_ctzll(w[0]) / 8
                        : __builtin_ctzll(w[1]) / 8 + 8);

    return 1;

#endif
}

#endif
