
/*
 * Transcripts that come as an array of turns.
 */


#ifndef _VAANI_TRANSCRIPT_H_INCLUDED_
#define _VAANI_TRANSCRIPT_H_INCLUDED_


#include "vaani_json.h"


/* an hour of talk has about a thousand */

#define VAANI_TRANSCRIPT_MAX_TURNS  16384


/*
 * Makes text of an array of turns, which has passed a scan: a line
 * "[time] ROLE: text" for each, as transcripts are written that come as text.
 * A turn is an object with "role" or "speaker"; "text", "content" or
 * "message"; "time" or "timestamp"; or a string.  Line breaks inside of a turn
 * become spaces; turns without a text are left out.
 *
 * Returns VAANI_OK, with *text in memory of alloc; VAANI_DONE if there is no
 * turn with a text, or there are more than VAANI_TRANSCRIPT_MAX_TURNS;
 * VAANI_NOMEM.
 */
int vaani_transcript_text(const vaani_str_t *raw, vaani_alloc_t *alloc,
    vaani_str_t *text);


#endif /* _VAANI_TRANSCRIPT_H_INCLUDED_ */
