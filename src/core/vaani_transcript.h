
/*
 * Transcripts sent as an array of turns.
 */


#ifndef _VAANI_TRANSCRIPT_H_INCLUDED_
#define _VAANI_TRANSCRIPT_H_INCLUDED_


#include "vaani_json.h"


/* one hour of conversation has about 1000 */

#define VAANI_TRANSCRIPT_MAX_TURNS  16384


/*
 * Converts an array of turns, which has passed a scan, to text with one line
 * "[time] ROLE: text" per turn, the form of transcripts that are sent as text.
 * A turn is a string, or an object with "role" or "speaker"; "text", "content"
 * or "message"; "time" or "timestamp".  Line breaks inside a turn become
 * spaces; turns without a text are skipped.
 *
 * Returns VAANI_OK, with *text in memory of alloc; VAANI_DONE if no turn has a
 * text, or there are more than VAANI_TRANSCRIPT_MAX_TURNS; VAANI_NOMEM.
 */
int vaani_transcript_text(const vaani_str_t *raw, vaani_alloc_t *alloc,
    vaani_str_t *text);


#endif /* _VAANI_TRANSCRIPT_H_INCLUDED_ */
