
/*
 * The page for people that vaani_status serves: status.html, which tools/page2c
 * turns into C when the module is built.
 *
 * It is one file without references to others, in UTF-8, and reads its numbers
 * from its own location, with the argument "format=json".
 */


#ifndef _NGX_HTTP_VAANI_PAGE_H_INCLUDED_
#define _NGX_HTTP_VAANI_PAGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


extern const ngx_str_t  ngx_http_vaani_page;

/*
 * The value of the header Content-Security-Policy for the page: it allows the
 * page's own style and script, by their hashes, and requests to its own
 * origin.
 */

extern const ngx_str_t  ngx_http_vaani_page_csp;


#endif /* _NGX_HTTP_VAANI_PAGE_H_INCLUDED_ */
