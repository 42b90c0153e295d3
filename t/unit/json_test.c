
/*
 * Tests of the JSON scanner, its strings, its integers and its escaping.
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vaani_json.h"
#include "vaani_reference.h"
#include "vaani_test.h"


/* the error messages: users see them, so they are tested */

#define END        "unexpected end of data"
#define VALUE      "expected a value"
#define AFTER      "unexpected data after the value"
#define LITERAL    "invalid literal"
#define ZEROS      "a number must not have leading zeros"
#define DIGIT      "expected a digit"
#define HEX        "expected a hexadecimal digit"
#define ESCAPE     "invalid escape"
#define CONTROL    "a control character in a string must be escaped"
#define UTF8       "invalid UTF-8"
#define KEY        "expected a key in double quotes"
#define COLON      "expected a colon after the key"
#define BRACE      "expected a comma or a closing brace"
#define BRACKET    "expected a comma or a closing bracket"
#define DEPTH      "nested too deeply"
#define DUPLICATE  "duplicate key"
#define MANY       "too many members in an object"


typedef struct {
    vaani_str_t         text;
    vaani_json_type_e   type;
} json_good_t;


typedef struct {
    vaani_str_t         text;
    size_t              offset;
    const char         *message;
} json_bad_t;


typedef struct {
    vaani_str_t         raw;
    vaani_str_t         value;
} json_string_t;


typedef struct {
    const char         *number;
    int                 shift;
    uint64_t            value;
    const char         *message;
} json_integer_t;


/* the options for bodies in either mode */

static const vaani_str_t  data_key = vaani_string("data");

static const vaani_json_options_t  strict = { &data_key, 1 };
static const vaani_json_options_t  lenient = { &data_key, 0 };


static void check_good(const u_char *data, size_t len, vaani_json_type_e type);
static void check_bad(const u_char *data, size_t len, size_t offset,
    const char *message);
static void check_reference(const u_char *data, size_t len);
static void check_scan(const u_char *data, size_t len,
    const vaani_json_options_t *options);
static void check_members(const vaani_json_members_t *list,
    const vaani_ref_list_t *ref, const u_char *text, size_t len);
static void check_duplicate(const char *text, size_t len, size_t offset);
static void check_integer(const char *number, size_t len, int shift,
    uint64_t value, const char *message);
static void check_escape(const u_char *data, size_t len);
static int is_utf8(const vaani_str_t *str);
static unsigned draw(uint64_t *seed, unsigned limit);
static char next_digit(uint64_t *seed, unsigned borders_only);
static size_t put_utf8(char *dst, unsigned cp);
static size_t put_keys(char *dst, size_t n);
static int scan_all(vaani_test_arena_t *arena, const vaani_str_t *text);


/* texts that are JSON */

static const json_good_t  good[] = {

    /* any value may be the whole text */

    { vaani_string("null"), VAANI_JSON_NULL },
    { vaani_string("true"), VAANI_JSON_BOOLEAN },
    { vaani_string("false"), VAANI_JSON_BOOLEAN },
    { vaani_string("0"), VAANI_JSON_NUMBER },
    { vaani_string("42"), VAANI_JSON_NUMBER },
    { vaani_string("-0.1"), VAANI_JSON_NUMBER },
    { vaani_string("\"\""), VAANI_JSON_STRING },
    { vaani_string("\" \""), VAANI_JSON_STRING },
    { vaani_string("\"asd\""), VAANI_JSON_STRING },
    { vaani_string("[]"), VAANI_JSON_ARRAY },
    { vaani_string("{}"), VAANI_JSON_OBJECT },

    /* white space: four characters, everywhere but inside of tokens */

    { vaani_string(" null"), VAANI_JSON_NULL },
    { vaani_string("null "), VAANI_JSON_NULL },
    { vaani_string("\tnull"), VAANI_JSON_NULL },
    { vaani_string("\nnull"), VAANI_JSON_NULL },
    { vaani_string("\rnull"), VAANI_JSON_NULL },
    { vaani_string("null\r\n"), VAANI_JSON_NULL },
    { vaani_string(" \t\r\n true \t\r\n "), VAANI_JSON_BOOLEAN },
    { vaani_string(" [] "), VAANI_JSON_ARRAY },
    { vaani_string("[ ]"), VAANI_JSON_ARRAY },
    { vaani_string("[\r\n\t ]"), VAANI_JSON_ARRAY },
    { vaani_string("[[]   ]"), VAANI_JSON_ARRAY },
    { vaani_string("[1\n]"), VAANI_JSON_ARRAY },
    { vaani_string("[ 4]"), VAANI_JSON_ARRAY },
    { vaani_string("[\t1\t,\t2\t]"), VAANI_JSON_ARRAY },
    { vaani_string("{ }"), VAANI_JSON_OBJECT },
    { vaani_string("{\n\"a\": \"b\"\n}"), VAANI_JSON_OBJECT },
    { vaani_string(" { \"a\" : 1 , \"b\" : 2 } "), VAANI_JSON_OBJECT },
    { vaani_string("{\t\"a\"\r:\n1 ,\"b\":2}\n\n"), VAANI_JSON_OBJECT },

    /* arrays */

    { vaani_string("[\"\"]"), VAANI_JSON_ARRAY },
    { vaani_string("[false]"), VAANI_JSON_ARRAY },
    { vaani_string("[null, 1, \"1\", {}, [], true, -1.5e3]"),
      VAANI_JSON_ARRAY },
    { vaani_string("[1,null,null,null,2]"), VAANI_JSON_ARRAY },
    { vaani_string("[[],[[]],[[],[[]]]]"), VAANI_JSON_ARRAY },
    { vaani_string("[{},{\"a\":{}},[{}]]"), VAANI_JSON_ARRAY },

    /* objects */

    { vaani_string("{\"\":0}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"a\":[]}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"a\":{}}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"asd\":\"sdf\", \"dfg\":\"fgh\"}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"foo\\u0000bar\": 42}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"foo\":1,\"foo\\u0000\":2}"), VAANI_JSON_OBJECT },
    { vaani_string("{ \"min\": -1.0e+28, \"max\": 1.0e+28 }"),
      VAANI_JSON_OBJECT },
    { vaani_string("{\"a\":1,\"A\":2,\"aa\":3,\"\":4}"), VAANI_JSON_OBJECT },

    /* repeated keys, but not in the top-level object */

    { vaani_string("{\"a\":{\"b\":1,\"b\":1}}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"a\":{\"a\":1},\"b\":{\"a\":1}}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"a\":[{\"a\":1,\"a\":2}]}"), VAANI_JSON_OBJECT },
    { vaani_string("[{\"a\":1,\"a\":2}]"), VAANI_JSON_ARRAY },
    { vaani_string("{\"a\":\"a\",\"b\":\"a\"}"), VAANI_JSON_OBJECT },

    /* keys that only look equal */

    { vaani_string("{\"\\u00e9\":1,\"e\\u0301\":2}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"\\\\u0061\":1,\"a\":2}"), VAANI_JSON_OBJECT },

    /* numbers */

    { vaani_string("-0"), VAANI_JSON_NUMBER },
    { vaani_string("-1"), VAANI_JSON_NUMBER },
    { vaani_string("9"), VAANI_JSON_NUMBER },
    { vaani_string("10"), VAANI_JSON_NUMBER },
    { vaani_string("-123"), VAANI_JSON_NUMBER },
    { vaani_string("1234567890"), VAANI_JSON_NUMBER },
    { vaani_string("0.0"), VAANI_JSON_NUMBER },
    { vaani_string("0.00"), VAANI_JSON_NUMBER },
    { vaani_string("-0.0"), VAANI_JSON_NUMBER },
    { vaani_string("1.000"), VAANI_JSON_NUMBER },
    { vaani_string("123.456789"), VAANI_JSON_NUMBER },
    { vaani_string("0e1"), VAANI_JSON_NUMBER },
    { vaani_string("0e+1"), VAANI_JSON_NUMBER },
    { vaani_string("0E-0"), VAANI_JSON_NUMBER },
    { vaani_string("1e007"), VAANI_JSON_NUMBER },
    { vaani_string("20e1"), VAANI_JSON_NUMBER },
    { vaani_string("1E22"), VAANI_JSON_NUMBER },
    { vaani_string("1E-2"), VAANI_JSON_NUMBER },
    { vaani_string("1E+2"), VAANI_JSON_NUMBER },
    { vaani_string("1e-2"), VAANI_JSON_NUMBER },
    { vaani_string("1e+2"), VAANI_JSON_NUMBER },
    { vaani_string("123.456e78"), VAANI_JSON_NUMBER },
    { vaani_string("-1.5E-3"), VAANI_JSON_NUMBER },
    { vaani_string("123.456e-789"), VAANI_JSON_NUMBER },
    { vaani_string("-123123e100000"), VAANI_JSON_NUMBER },
    { vaani_string("0.4e00669999999999999999999999999999999999999999"),
      VAANI_JSON_NUMBER },
    { vaani_string("-237462374673276894279832749832423479823246327846"),
      VAANI_JSON_NUMBER },
    { vaani_string("-0.00000000000000000000000000000000000000000000000001"),
      VAANI_JSON_NUMBER },

    /* escapes */

    { vaani_string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""), VAANI_JSON_STRING },
    { vaani_string("\"\\u0060\\u012a\\u12AB\""), VAANI_JSON_STRING },
    { vaani_string("\"\\u0000\""), VAANI_JSON_STRING },
    { vaani_string("\"\\u001f\\u0020\\u0022\\u005C\""), VAANI_JSON_STRING },
    { vaani_string("\"\\uabcd\\uABCD\\uAbCd\""), VAANI_JSON_STRING },
    { vaani_string("\"\\uFFFE\\uFFFF\\uFDD0\\uFEFF\""), VAANI_JSON_STRING },
    { vaani_string("\"\\uD7FF\\uE000\""), VAANI_JSON_STRING },
    { vaani_string("\"\\\\u0000\""), VAANI_JSON_STRING },
    { vaani_string("\"\\\\uD800\""), VAANI_JSON_STRING },
    { vaani_string("\"\\\\\\\\\\\"\""), VAANI_JSON_STRING },
    { vaani_string("\"a/*b*/c/*d//e\""), VAANI_JSON_STRING },

    /* pairs of surrogates */

    { vaani_string("\"\\uD801\\udc37\""), VAANI_JSON_STRING },
    { vaani_string("\"\\ud83d\\ude39\\ud83d\\udc8d\""), VAANI_JSON_STRING },
    { vaani_string("\"\\uD800\\uDC00\""), VAANI_JSON_STRING },
    { vaani_string("\"\\uDBFF\\uDFFF\""), VAANI_JSON_STRING },

    /* UTF-8 at both ends of each length, and next to the surrogates */

    { vaani_string("\"\x7f\""), VAANI_JSON_STRING },
    { vaani_string("\"\xc2\x80\""), VAANI_JSON_STRING },
    { vaani_string("\"\xdf\xbf\""), VAANI_JSON_STRING },
    { vaani_string("\"\xe0\xa0\x80\""), VAANI_JSON_STRING },
    { vaani_string("\"\xed\x9f\xbf\""), VAANI_JSON_STRING },
    { vaani_string("\"\xee\x80\x80\""), VAANI_JSON_STRING },
    { vaani_string("\"\xef\xbf\xbe\xef\xbf\xbf\""), VAANI_JSON_STRING },
    { vaani_string("\"\xf0\x90\x80\x80\""), VAANI_JSON_STRING },
    { vaani_string("\"\xf4\x8f\xbf\xbf\""), VAANI_JSON_STRING },

    /* bytes that are no white space or no start of a text, inside a string */

    { vaani_string("\"\xef\xbb\xbf\""), VAANI_JSON_STRING },
    { vaani_string("\"\xc2\xa0\xe2\x80\xa8\xe2\x80\xa9\xe2\x81\xa0\""),
      VAANI_JSON_STRING },
    { vaani_string("{\"\xef\xbb\xbf\":1}"), VAANI_JSON_OBJECT },
    { vaani_string("{\"\xe0\xa4\xb5\xe0\xa4\xbe\xe0\xa4\xa3\xe0\xa5\x80\":1}"),
      VAANI_JSON_OBJECT },

    /* the vendor's */

    { vaani_string("{\n\"event\": \"call_postprocessing\",\n"
                   "\"room_name\": \"room_123abc\",\n"
                   "\"call_duration\": 42500,\n"
                   "\"transcript\": \"User: Hello. Agent: Hi, ...\",\n"
                   "\"entities\": {\n\"location\": \"Mumbai\",\n"
                   "\"intent\": \"service_inquiry\"\n}\n}"),
      VAANI_JSON_OBJECT }
};


/* texts that are not JSON, the position of the error, and the message */

static const json_bad_t  bad[] = {

    /* no value */

    { vaani_string(""), 0, END },
    { vaani_string(" "), 1, END },
    { vaani_string("\t"), 1, END },
    { vaani_string(" \r\n\t "), 5, END },
    { vaani_string(","), 0, VALUE },
    { vaani_string(":"), 0, VALUE },
    { vaani_string("]"), 0, VALUE },
    { vaani_string("}"), 0, VALUE },
    { vaani_string("*"), 0, VALUE },
    { vaani_string("<.>"), 0, VALUE },
    { vaani_string("abc"), 0, VALUE },
    { vaani_string("'a'"), 0, VALUE },
    { vaani_string("a\xc3\xa5"), 0, VALUE },
    { vaani_string("\xc3\xa5"), 0, VALUE },
    { vaani_string("\xe9"), 0, VALUE },
    { vaani_string("\xff"), 0, VALUE },
    { vaani_string("/**/1"), 0, VALUE },
    { vaani_string("//\n1"), 0, VALUE },
    { vaani_string("#\n1"), 0, VALUE },

    /* white space of other standards */

    { vaani_string("\0"), 0, VALUE },
    { vaani_string("\0null"), 0, VALUE },
    { vaani_string("\fnull"), 0, VALUE },
    { vaani_string("\vnull"), 0, VALUE },
    { vaani_string("\x1enull"), 0, VALUE },
    { vaani_string("\xa0null"), 0, VALUE },
    { vaani_string("\xc2\xa0null"), 0, VALUE },
    { vaani_string("\xc2\x85null"), 0, VALUE },
    { vaani_string("\xe2\x80\xa8null"), 0, VALUE },
    { vaani_string("\xe2\x81\xa0null"), 0, VALUE },
    { vaani_string("\xe3\x80\x80null"), 0, VALUE },
    { vaani_string("null\0"), 4, AFTER },
    { vaani_string("null\f"), 4, AFTER },
    { vaani_string("null\v"), 4, AFTER },
    { vaani_string("null\xc2\xa0"), 4, AFTER },
    { vaani_string("null\xef\xbb\xbf"), 4, AFTER },
    { vaani_string("null \xe2\x80\xa8"), 5, AFTER },
    { vaani_string("[\0]"), 1, VALUE },
    { vaani_string("[\f]"), 1, VALUE },
    { vaani_string("[\xe2\x81\xa0]"), 1, VALUE },
    { vaani_string("[1\f]"), 2, BRACKET },
    { vaani_string("[1\0,2]"), 2, BRACKET },
    { vaani_string("[1,\f2]"), 3, VALUE },
    { vaani_string("{\f}"), 1, KEY },
    { vaani_string("{\"a\"\f:1}"), 4, COLON },
    { vaani_string("{\"a\":\f1}"), 5, VALUE },
    { vaani_string("{\"a\":1\f}"), 6, BRACE },
    { vaani_string("{\"a\":1,\f\"b\":2}"), 7, KEY },
    { vaani_string("123\0"), 3, AFTER },
    { vaani_string("{}\0"), 2, AFTER },

    /* a byte order mark, whole or in part, and other encodings */

    { vaani_string("\xef\xbb\xbf"), 0, VALUE },
    { vaani_string("\xef\xbb\xbf{}"), 0, VALUE },
    { vaani_string(" \xef\xbb\xbf{}"), 1, VALUE },
    { vaani_string("\xef\xbb{}"), 0, VALUE },
    { vaani_string("{}\xef\xbb\xbf"), 2, AFTER },
    { vaani_string("\xff\xfe[\0\"\0\xe9\0\"\0]\0"), 0, VALUE },
    { vaani_string("\xfe\xff\0[\0]"), 0, VALUE },
    { vaani_string("[\0\"\0\xe9\0\"\0]\0"), 1, VALUE },
    { vaani_string("\0[\0\"\0\xe9\0\"\0]"), 0, VALUE },

    /* literals */

    { vaani_string("n"), 1, END },
    { vaani_string("nul"), 3, END },
    { vaani_string("t"), 1, END },
    { vaani_string("tru"), 3, END },
    { vaani_string("f"), 1, END },
    { vaani_string("fals"), 4, END },
    { vaani_string("nulx"), 3, LITERAL },
    { vaani_string("nxll"), 1, LITERAL },
    { vaani_string("nULL"), 1, LITERAL },
    { vaani_string("truE"), 3, LITERAL },
    { vaani_string("fa1se"), 2, LITERAL },
    { vaani_string("tru e"), 3, LITERAL },
    { vaani_string("nul\0"), 3, LITERAL },
    { vaani_string("nan"), 1, LITERAL },
    { vaani_string("Null"), 0, VALUE },
    { vaani_string("True"), 0, VALUE },
    { vaani_string("FALSE"), 0, VALUE },
    { vaani_string("nullx"), 4, AFTER },
    { vaani_string("nulll"), 4, AFTER },
    { vaani_string("truefalse"), 4, AFTER },
    { vaani_string("null0"), 4, AFTER },
    { vaani_string("[fals]"), 5, LITERAL },
    { vaani_string("[nul]"), 4, LITERAL },
    { vaani_string("[tru]"), 4, LITERAL },
    { vaani_string("[ false, nul"), 12, END },
    { vaani_string("[ true, fals"), 12, END },
    { vaani_string("[\"x\", truth]"), 9, LITERAL },
    { vaani_string("undefined"), 0, VALUE },
    { vaani_string("[True]"), 1, VALUE },

    /* numbers */

    { vaani_string("-"), 1, END },
    { vaani_string("+"), 0, VALUE },
    { vaani_string("+1"), 0, VALUE },
    { vaani_string("++1"), 0, VALUE },
    { vaani_string("--1"), 1, DIGIT },
    { vaani_string("-+1"), 1, DIGIT },
    { vaani_string("- 1"), 1, DIGIT },
    { vaani_string("-a"), 1, DIGIT },
    { vaani_string("-\"1\""), 1, DIGIT },
    { vaani_string("."), 0, VALUE },
    { vaani_string(".1"), 0, VALUE },
    { vaani_string(".2e-3"), 0, VALUE },
    { vaani_string("-.1"), 1, DIGIT },
    { vaani_string("00"), 1, ZEROS },
    { vaani_string("01"), 1, ZEROS },
    { vaani_string("012"), 1, ZEROS },
    { vaani_string("-00"), 2, ZEROS },
    { vaani_string("-01"), 2, ZEROS },
    { vaani_string("09.5"), 1, ZEROS },
    { vaani_string("1."), 2, END },
    { vaani_string("0."), 2, END },
    { vaani_string("-1."), 3, END },
    { vaani_string("1.e1"), 2, DIGIT },
    { vaani_string("2.e+3"), 2, DIGIT },
    { vaani_string("1. 5"), 2, DIGIT },
    { vaani_string("1.-5"), 2, DIGIT },
    { vaani_string("1..5"), 2, DIGIT },
    { vaani_string("1.a"), 2, DIGIT },
    { vaani_string("1.5."), 3, AFTER },
    { vaani_string("0.1.2"), 3, AFTER },
    { vaani_string("1e"), 2, END },
    { vaani_string("1E"), 2, END },
    { vaani_string("0e"), 2, END },
    { vaani_string("1e+"), 3, END },
    { vaani_string("1e-"), 3, END },
    { vaani_string("1.0e"), 4, END },
    { vaani_string("1.0e-"), 5, END },
    { vaani_string("1ea"), 2, DIGIT },
    { vaani_string("1ee2"), 2, DIGIT },
    { vaani_string("1eE2"), 2, DIGIT },
    { vaani_string("1e.5"), 2, DIGIT },
    { vaani_string("1e+-1"), 3, DIGIT },
    { vaani_string("1e++1"), 3, DIGIT },
    { vaani_string("1e 1"), 2, DIGIT },
    { vaani_string("1e+ 1"), 3, DIGIT },
    { vaani_string("1e1.5"), 3, AFTER },
    { vaani_string("1e1e1"), 3, AFTER },
    { vaani_string("1e5-"), 3, AFTER },
    { vaani_string("0x1"), 1, AFTER },
    { vaani_string("0x42"), 1, AFTER },
    { vaani_string("0b1"), 1, AFTER },
    { vaani_string("1a"), 1, AFTER },
    { vaani_string("1-"), 1, AFTER },
    { vaani_string("1+2"), 1, AFTER },
    { vaani_string("1_000"), 1, AFTER },
    { vaani_string("1,000"), 1, AFTER },
    { vaani_string("1 000.0"), 2, AFTER },
    { vaani_string("2@"), 1, AFTER },
    { vaani_string("1n"), 1, AFTER },
    { vaani_string("1f"), 1, AFTER },
    { vaani_string("1d"), 1, AFTER },
    { vaani_string("-1x"), 2, AFTER },
    { vaani_string("-123.123foo"), 8, AFTER },
    { vaani_string("1.2a-3"), 3, AFTER },
    { vaani_string("1.8011670033376514H-308"), 18, AFTER },
    { vaani_string("NaN"), 0, VALUE },
    { vaani_string("-NaN"), 1, DIGIT },
    { vaani_string("Inf"), 0, VALUE },
    { vaani_string("Infinity"), 0, VALUE },
    { vaani_string("-Infinity"), 1, DIGIT },
    { vaani_string("+Inf"), 0, VALUE },
    { vaani_string("\xef\xbc\x91"), 0, VALUE },
    { vaani_string("\xd9\xa1"), 0, VALUE },
    { vaani_string("1\xef\xbc\x91"), 1, AFTER },
    { vaani_string("0\xe5"), 1, AFTER },
    { vaani_string("123\xe5"), 3, AFTER },
    { vaani_string("1e\xe5"), 2, DIGIT },
    { vaani_string("1e1\xe5"), 3, AFTER },
    { vaani_string("-\0"), 1, DIGIT },
    { vaani_string("1.\0"), 2, DIGIT },
    { vaani_string("[-]"), 2, DIGIT },
    { vaani_string("[-01]"), 3, ZEROS },
    { vaani_string("[-1.0.]"), 5, BRACKET },
    { vaani_string("[-2.]"), 4, DIGIT },
    { vaani_string("[.-1]"), 1, VALUE },
    { vaani_string("[0.e1]"), 3, DIGIT },
    { vaani_string("[0E+]"), 4, DIGIT },
    { vaani_string("[1+2]"), 2, BRACKET },
    { vaani_string("{\"a\":012}"), 6, ZEROS },
    { vaani_string("{\"a\":1.}"), 7, DIGIT },
    { vaani_string("{\"a\":1x}"), 6, BRACE },

    /* arrays */

    { vaani_string("["), 1, END },
    { vaani_string("[ "), 2, END },
    { vaani_string("[1"), 2, END },
    { vaani_string("[1 "), 3, END },
    { vaani_string("[1,"), 3, END },
    { vaani_string("[1, "), 4, END },
    { vaani_string("[\"\""), 3, END },
    { vaani_string("[{}"), 3, END },
    { vaani_string("[[]"), 3, END },
    { vaani_string("[\"a\",\n4\n,1,"), 11, END },
    { vaani_string("[,"), 1, VALUE },
    { vaani_string("[,]"), 1, VALUE },
    { vaani_string("[,1]"), 1, VALUE },
    { vaani_string("[   , \"\"]"), 4, VALUE },
    { vaani_string("[1,]"), 3, VALUE },
    { vaani_string("[1, ]"), 4, VALUE },
    { vaani_string("[1,,]"), 3, VALUE },
    { vaani_string("[1,,2]"), 3, VALUE },
    { vaani_string("[\"x\",,]"), 5, VALUE },
    { vaani_string("[1 true]"), 3, BRACKET },
    { vaani_string("[1:2]"), 2, BRACKET },
    { vaani_string("[1;2]"), 2, BRACKET },
    { vaani_string("[\"\": 1]"), 3, BRACKET },
    { vaani_string("[3[4]]"), 2, BRACKET },
    { vaani_string("[1}"), 2, BRACKET },
    { vaani_string("[}"), 1, VALUE },
    { vaani_string("[*]"), 1, VALUE },
    { vaani_string("[x"), 1, VALUE },
    { vaani_string("[a\xe5]"), 1, VALUE },
    { vaani_string("[\xff]"), 1, VALUE },
    { vaani_string("[\xc3\xa9]"), 1, VALUE },
    { vaani_string("[<null>]"), 1, VALUE },
    { vaani_string("['"), 1, VALUE },
    { vaani_string("['single quote']"), 1, VALUE },
    { vaani_string("[\\n]"), 1, VALUE },
    { vaani_string("[\\u0020\"asd\"]"), 1, VALUE },
    { vaani_string("[\"\va\"\\f]"), 2, CONTROL },
    { vaani_string("[\"a\"\\f]"), 4, BRACKET },
    { vaani_string("[1]/**/"), 3, AFTER },
    { vaani_string("[1/**/]"), 2, BRACKET },
    { vaani_string("[][]"), 2, AFTER },
    { vaani_string("[]]"), 2, AFTER },
    { vaani_string("[]["), 2, AFTER },
    { vaani_string("[1]x"), 3, AFTER },
    { vaani_string("[\"x\"]]"), 5, AFTER },
    { vaani_string("[\"\"],"), 4, AFTER },
    { vaani_string("1]"), 1, AFTER },
    { vaani_string("[[1]"), 4, END },
    { vaani_string("[[1}]"), 3, BRACKET },
    { vaani_string("[{]"), 2, KEY },
    { vaani_string("[{"), 2, END },
    { vaani_string("[\"a"), 3, END },
    { vaani_string("[\"asd]"), 6, END },

    /* objects */

    { vaani_string("{"), 1, END },
    { vaani_string("{ "), 2, END },
    { vaani_string("{\""), 2, END },
    { vaani_string("{\"a"), 3, END },
    { vaani_string("{\"a\""), 4, END },
    { vaani_string("{\"a\" "), 5, END },
    { vaani_string("{\"a\":"), 5, END },
    { vaani_string("{\"a\": "), 6, END },
    { vaani_string("{\"\":"), 4, END },
    { vaani_string("{\"a\":1"), 6, END },
    { vaani_string("{\"a\":1 "), 7, END },
    { vaani_string("{\"a\":1,"), 7, END },
    { vaani_string("{\"a\":1, "), 8, END },
    { vaani_string("{\"a\":\"a"), 7, END },
    { vaani_string("{\"a\":{}"), 7, END },
    { vaani_string("{\"a\":["), 6, END },
    { vaani_string("{\"x\": true,"), 11, END },
    { vaani_string("{,"), 1, KEY },
    { vaani_string("{,}"), 1, KEY },
    { vaani_string("{:\"b\"}"), 1, KEY },
    { vaani_string("{["), 1, KEY },
    { vaani_string("{]"), 1, KEY },
    { vaani_string("{[: \"x\"}\n"), 1, KEY },
    { vaani_string("{1:1}"), 1, KEY },
    { vaani_string("{9999E9999:1}"), 1, KEY },
    { vaani_string("{null:null,null:null}"), 1, KEY },
    { vaani_string("{a: \"b\"}"), 1, KEY },
    { vaani_string("{key: 'value'}"), 1, KEY },
    { vaani_string("{'a':0}"), 1, KEY },
    { vaani_string("{'a'"), 1, KEY },
    { vaani_string("{\xf0\x9f\x87\xa8}"), 1, KEY },
    { vaani_string("{{}:1}"), 1, KEY },
    { vaani_string("{\0}"), 1, KEY },
    { vaani_string("{\"a\":1,}"), 7, KEY },
    { vaani_string("{\"a\":1, }"), 8, KEY },
    { vaani_string("{\"id\":0,,,,,}"), 8, KEY },
    { vaani_string("{\"a\":\"b\",,\"c\":\"d\"}"), 9, KEY },
    { vaani_string("{\"a\":1,b:2}"), 7, KEY },
    { vaani_string("{\"a\":1,2}"), 7, KEY },
    { vaani_string("{\"a\"}"), 4, COLON },
    { vaani_string("{\"a\" b}"), 5, COLON },
    { vaani_string("{\"a\" \"b\"}"), 5, COLON },
    { vaani_string("{\"x\", null}"), 4, COLON },
    { vaani_string("{\"a\"=1}"), 4, COLON },
    { vaani_string("{ \"foo\" : \"bar\", \"a\" }"), 21, COLON },
    { vaani_string("{\"a\":}"), 5, VALUE },
    { vaani_string("{\"a\":,}"), 5, VALUE },
    { vaani_string("{\"x\"::\"b\"}"), 5, VALUE },
    { vaani_string("{\"a\":/*comment*/\"b\"}"), 5, VALUE },
    { vaani_string("{\"a\":\"a\" 123}"), 9, BRACE },
    { vaani_string("{\"a\":1 \"b\":2}"), 7, BRACE },
    { vaani_string("{\"a\":1;\"b\":2}"), 6, BRACE },
    { vaani_string("{\"a\":1:2}"), 6, BRACE },
    { vaani_string("{\"a\":1]"), 6, BRACE },
    { vaani_string("{\"a\":[1}"), 7, BRACKET },
    { vaani_string("{\"a\":{\"b\":1]}"), 11, BRACE },
    { vaani_string("[{\"a\":1]"), 7, BRACE },
    { vaani_string("{}}"), 2, AFTER },
    { vaani_string("{}{}"), 2, AFTER },
    { vaani_string("{} {}"), 3, AFTER },
    { vaani_string("{},"), 2, AFTER },
    { vaani_string("{\"a\":\"b\"}#"), 9, AFTER },
    { vaani_string("{\"a\":\"b\"}#{}"), 9, AFTER },
    { vaani_string("{\"a\":\"b\"}/"), 9, AFTER },
    { vaani_string("{\"a\":\"b\"}//"), 9, AFTER },
    { vaani_string("{\"a\":\"b\"}/**/"), 9, AFTER },
    { vaani_string("{\"a\": true} \"x\""), 12, AFTER },
    { vaani_string("{\"\xb9\":\"0\",}"), 2, UTF8 },

    /* duplicates: reported only for texts that are otherwise JSON */

    { vaani_string("{\"a\":1,\"a\":2}"), 7, DUPLICATE },
    { vaani_string("{\"a\":\"b\",\"a\":\"b\"}"), 9, DUPLICATE },
    { vaani_string("{\"\":1,\"\":2}"), 6, DUPLICATE },
    { vaani_string("{ \"a\" : 1 , \"a\" : 2 }"), 12, DUPLICATE },
    { vaani_string("{\"a\":1,\"b\":2,\"a\":3}"), 13, DUPLICATE },
    { vaani_string("{\"a\":1,\"b\":2,\"b\":3,\"a\":4}"), 13, DUPLICATE },
    { vaani_string("{\"a\":1,\"a\":2,\"a\":3}"), 7, DUPLICATE },
    { vaani_string("{\"b\":1,\"a\":2,\"a\":3,\"b\":4}"), 13, DUPLICATE },
    { vaani_string("{\"a\":1,\"\\u0061\":2}"), 7, DUPLICATE },
    { vaani_string("{\"\\u0061\":1,\"a\":2}"), 12, DUPLICATE },
    { vaani_string("{\"\\u0061\":1,\"\\u0061\":2}"), 12, DUPLICATE },
    { vaani_string("{\"/\":1,\"\\/\":2}"), 7, DUPLICATE },
    { vaani_string("{\"\\n\":1,\"\\u000a\":2,\"\\u000A\":3}"), 8, DUPLICATE },
    { vaani_string("{\"\xc3\xa9\":1,\"\\u00E9\":2}"), 8, DUPLICATE },
    { vaani_string("{\"\xf0\x9d\x84\x9e\":1,\"\\ud834\\uDD1E\":2}"), 10,
      DUPLICATE },
    { vaani_string("{\"a\\u0000b\":1,\"a\\u0000b\":2}"), 14, DUPLICATE },
    { vaani_string("{\"a\":{\"a\":1},\"a\":{}}"), 13, DUPLICATE },
    { vaani_string("{\"a\":1,\"a\":2} "), 7, DUPLICATE },
    { vaani_string("{\"a\":1,\"a\":2}x"), 13, AFTER },
    { vaani_string("{\"a\":1,\"a\":2"), 12, END },
    { vaani_string("{\"a\":1,\"a\":x}"), 11, VALUE },

    /* strings without an end */

    { vaani_string("\""), 1, END },
    { vaani_string("\"a"), 2, END },
    { vaani_string("\"abcdefgh"), 9, END },
    { vaani_string("\"\\"), 2, END },
    { vaani_string("\"\\\""), 3, END },
    { vaani_string("\"\\u"), 3, END },
    { vaani_string("\"\\u0"), 4, END },
    { vaani_string("\"\\u00"), 5, END },
    { vaani_string("\"\\u000"), 6, END },
    { vaani_string("\"\\u0000"), 7, END },
    { vaani_string("\"\\n"), 3, END },
    { vaani_string("\"\\\\\\\""), 5, END },
    { vaani_string("[\"\\\\\\\"]"), 7, END },
    { vaani_string("[\"\\\"]"), 5, END },
    { vaani_string("\"\"x"), 2, AFTER },
    { vaani_string("\"\"\""), 2, AFTER },
    { vaani_string("\"a\"b\""), 3, AFTER },
    { vaani_string("[\"\\{[\"\\{"), 2, ESCAPE },

    /* escapes */

    { vaani_string("\"\\a\""), 1, ESCAPE },
    { vaani_string("\"\\v\""), 1, ESCAPE },
    { vaani_string("\"\\0\""), 1, ESCAPE },
    { vaani_string("\"\\x00\""), 1, ESCAPE },
    { vaani_string("\"\\'\""), 1, ESCAPE },
    { vaani_string("\"\\ \""), 1, ESCAPE },
    { vaani_string("\"\\\n\""), 1, ESCAPE },
    { vaani_string("\"\\\t\""), 1, ESCAPE },
    { vaani_string("\"\\\0\""), 1, ESCAPE },
    { vaani_string("\"\\B\""), 1, ESCAPE },
    { vaani_string("\"\\N\""), 1, ESCAPE },
    { vaani_string("\"\\T\""), 1, ESCAPE },
    { vaani_string("\"\\UA66D\""), 1, ESCAPE },
    { vaani_string("\"\\\xe5\""), 1, ESCAPE },
    { vaani_string("\"\\\xf0\x9f\x8c\x80\""), 1, ESCAPE },
    { vaani_string("\"abc\\q\""), 4, ESCAPE },
    { vaani_string("\"\\n\\q\""), 3, ESCAPE },
    { vaani_string("\"\\u\""), 3, HEX },
    { vaani_string("\"\\u1\""), 4, HEX },
    { vaani_string("\"\\u12\""), 5, HEX },
    { vaani_string("\"\\u123\""), 6, HEX },
    { vaani_string("\"\\u00A\""), 6, HEX },
    { vaani_string("\"\\uqqqq\""), 3, HEX },
    { vaani_string("\"\\u000g\""), 6, HEX },
    { vaani_string("\"\\uG000\""), 3, HEX },
    { vaani_string("\"\\u00 0\""), 5, HEX },
    { vaani_string("\"\\u-001\""), 3, HEX },
    { vaani_string("\"\\u+001\""), 3, HEX },
    { vaani_string("\"\\u0x01\""), 4, HEX },
    { vaani_string("\"\\u{61}\""), 3, HEX },
    { vaani_string("\"\\u@000\""), 3, HEX },
    { vaani_string("\"\\u`000\""), 3, HEX },
    { vaani_string("\"\\u/000\""), 3, HEX },
    { vaani_string("\"\\u:000\""), 3, HEX },
    { vaani_string("\"\\u\x10\x11\x12\x13\""), 3, HEX },
    { vaani_string("\"\\u\0\0\0\0\""), 3, HEX },
    { vaani_string("\"\\u\xe5\""), 3, HEX },
    { vaani_string("\"\\u\xc3\xa9\xc3\xa9\""), 3, HEX },
    { vaani_string("{\"\\x\":1}"), 2, ESCAPE },

    /* after half a pair of surrogates */

    { vaani_string("\"\\uD800"), 7, END },
    { vaani_string("\"\\uD800\\"), 8, END },
    { vaani_string("\"\\uD800\\u"), 9, END },
    { vaani_string("\"\\uD800\\uD"), 10, END },
    { vaani_string("\"\\uD800\\uDC0"), 12, END },
    { vaani_string("\"\\uD800\\uDC00"), 13, END },
    { vaani_string("\"\\uD800\\\"]"), 10, END },
    { vaani_string("\"\\uD800\\U0000\""), 7, ESCAPE },
    { vaani_string("\"\\uD800\\x\""), 7, ESCAPE },
    { vaani_string("\"\\uD800\xed\xb0\x80\""), 7, UTF8 },
    { vaani_string("\"\\uD800\n\""), 7, CONTROL },
    { vaani_string("\"\\uD800\\u\""), 9, HEX },
    { vaani_string("\"\\uD800\\u1\""), 10, HEX },
    { vaani_string("\"\\uD800\\u1x\""), 10, HEX },
    { vaani_string("\"\\uD834\\uDd\""), 11, HEX },
    { vaani_string("{\"\\uDFAA\":0,\"\\uDFAB\":0}"), 12, DUPLICATE },
    { vaani_string("{\"\\uDFAA\":0,\"\xef\xbf\xbd\":0}"), 12, DUPLICATE },

    /* UTF-8 */

    { vaani_string("\"\x80\""), 1, UTF8 },
    { vaani_string("\"\x81\""), 1, UTF8 },
    { vaani_string("\"\xbf\""), 1, UTF8 },
    { vaani_string("\"\xe9\""), 1, UTF8 },
    { vaani_string("\"\xc0\x80\""), 1, UTF8 },
    { vaani_string("\"\xc0\xaf\""), 1, UTF8 },
    { vaani_string("\"\xc1\xbf\""), 1, UTF8 },
    { vaani_string("\"\xe0\x80\x80\""), 1, UTF8 },
    { vaani_string("\"\xe0\x80\xaf\""), 1, UTF8 },
    { vaani_string("\"\xe0\x9f\xbf\""), 1, UTF8 },
    { vaani_string("\"\xf0\x80\x80\xaf\""), 1, UTF8 },
    { vaani_string("\"\xf0\x8f\xbf\xbf\""), 1, UTF8 },
    { vaani_string("\"\xf8\x80\x80\x80\xaf\""), 1, UTF8 },
    { vaani_string("\"\xfc\x80\x80\x80\x80\xaf\""), 1, UTF8 },
    { vaani_string("\"\xfc\x83\xbf\xbf\xbf\xbf\""), 1, UTF8 },
    { vaani_string("\"\xed\xa0\x80\""), 1, UTF8 },
    { vaani_string("\"\xed\xbf\xbf\""), 1, UTF8 },
    { vaani_string("\"\xed\xa0\xb4\xed\xb4\x9e\""), 1, UTF8 },
    { vaani_string("\"\xf4\x90\x80\x80\""), 1, UTF8 },
    { vaani_string("\"\xf4\xbf\xbf\xbf\""), 1, UTF8 },
    { vaani_string("\"\xf5\x80\x80\x80\""), 1, UTF8 },
    { vaani_string("\"\xf8\x88\x80\x80\x80\""), 1, UTF8 },
    { vaani_string("\"\xfe\""), 1, UTF8 },
    { vaani_string("\"\xff\""), 1, UTF8 },
    { vaani_string("\"\xc3\""), 1, UTF8 },
    { vaani_string("\"\xc3"), 1, UTF8 },
    { vaani_string("\"\xc3\xc3\""), 1, UTF8 },
    { vaani_string("\"\xe0\xff\""), 1, UTF8 },
    { vaani_string("\"\xe2\x82\""), 1, UTF8 },
    { vaani_string("\"\xe2\x82"), 1, UTF8 },
    { vaani_string("\"\xf0\x9d\x84\""), 1, UTF8 },
    { vaani_string("\"\xf0\x9d\x84"), 1, UTF8 },
    { vaani_string("\"\xe6\x97\xa5\xd1\x88\xfa\""), 6, UTF8 },
    { vaani_string("\"abcdefghij\xff\""), 11, UTF8 },
    { vaani_string("\"\xc3\xa9\xa9\""), 3, UTF8 },
    { vaani_string("{\"\xff\":1}"), 2, UTF8 },
    { vaani_string("{\"a\":[\"\xff\"]}"), 7, UTF8 },

    /* control characters (there is a separate test for all of them) */

    { vaani_string("\"\0\""), 1, CONTROL },
    { vaani_string("\"\t\""), 1, CONTROL },
    { vaani_string("\"a\nb\""), 2, CONTROL },
    { vaani_string("\"\x1f\""), 1, CONTROL },
    { vaani_string("\"a\0a\""), 2, CONTROL },
    { vaani_string("\"\n"), 1, CONTROL },
    { vaani_string("{\"\t\":1}"), 2, CONTROL },
    { vaani_string("[\"a\",\"b\r\"]"), 7, CONTROL }
};


/* decoded strings */

/* the replacement character */

#define FFFD  "\xef\xbf\xbd"


static const json_string_t  strings[] = {

    { vaani_string("\"\""), vaani_string("") },
    { vaani_string("\"a\""), vaani_string("a") },
    { vaani_string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""),
      vaani_string("\"\\/\b\f\n\r\t") },
    { vaani_string("\"\\u0041\\u00e9\\u20AC\""),
      vaani_string("A\xc3\xa9\xe2\x82\xac") },
    { vaani_string("\"\\uD834\\uDd1e\""), vaani_string("\xf0\x9d\x84\x9e") },
    { vaani_string("\"\\uD800\\uDC00\""), vaani_string("\xf0\x90\x80\x80") },
    { vaani_string("\"\\uDBFF\\uDFFF\""), vaani_string("\xf4\x8f\xbf\xbf") },
    { vaani_string("\"\\uD7FF\\uE000\\uFFFF\""),
      vaani_string("\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf") },
    { vaani_string("\"\\u007f\\u0080\\u07ff\\u0800\""),
      vaani_string("\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80") },

    /* valid UTF-8 is unchanged, next to an escape too */

    { vaani_string("\"\xc3\xa9\""), vaani_string("\xc3\xa9") },
    { vaani_string("\"\\n\xe0\xa4\xb5\xf0\x9d\x84\x9e\""),
      vaani_string("\n\xe0\xa4\xb5\xf0\x9d\x84\x9e") },
    { vaani_string("\"\xef\xbb\xbf\\n\""), vaani_string("\xef\xbb\xbf\n") },

    /* U+0000 is an ordinary character */

    { vaani_string("\"\\u0000\""), vaani_string("\0") },
    { vaani_string("\"\\u0000\\u0000\""), vaani_string("\0\0") },
    { vaani_string("\"a\\u0000b\""), vaani_string("a\0b") },
    { vaani_string("\"\\u0000abc\\u0000def\\u0000\""),
      vaani_string("\0abc\0def\0") },
    { vaani_string("\"\xc3\xa9\\u0000\xc3\xa9\\t\""),
      vaani_string("\xc3\xa9\0\xc3\xa9\t") },

    /* invalid escapes */

    { vaani_string("\"\\\\u0041\""), vaani_string("\\u0041") },
    { vaani_string("\"\\\\n\""), vaani_string("\\n") },
    { vaani_string("\"\\\\\\\\\\n\""), vaani_string("\\\\\n") },
    { vaani_string("\"\\u005cn\""), vaani_string("\\n") },
    { vaani_string("\"\\u005C\\u0022\""), vaani_string("\\\"") },
    { vaani_string("\"\\u00410\""), vaani_string("A0") },
    { vaani_string("\"/\\/\""), vaani_string("//") },

    /* a surrogate that stands alone is legal, and U+FFFD */

    { vaani_string("\"\\uD800\""), vaani_string(FFFD) },
    { vaani_string("\"\\udbff\""), vaani_string(FFFD) },
    { vaani_string("\"\\uDC00\""), vaani_string(FFFD) },
    { vaani_string("\"\\uDFFF\""), vaani_string(FFFD) },
    { vaani_string("\"abc\\uDADA\""), vaani_string("abc" FFFD) },
    { vaani_string("\"\\uD800abcdef\""), vaani_string(FFFD "abcdef") },
    { vaani_string("\"\\uD800\\n\""), vaani_string(FFFD "\n") },
    { vaani_string("\"\\uD800\\\\u\""), vaani_string(FFFD "\\u") },
    { vaani_string("\"\\uD800\\\\uDC00\""), vaani_string(FFFD "\\uDC00") },
    { vaani_string("\"\\\\uD800\\uDC00\""), vaani_string("\\uD800" FFFD) },
    { vaani_string("\"\\uD800\\uD800\""), vaani_string(FFFD FFFD) },
    { vaani_string("\"\\uD800\\uD800\\n\""), vaani_string(FFFD FFFD "\n") },
    { vaani_string("\"\\uD800\\uDBFF\""), vaani_string(FFFD FFFD) },
    { vaani_string("\"\\uD800\\uE000\""), vaani_string(FFFD "\xee\x80\x80") },
    { vaani_string("\"\\uD888\\u1234\""), vaani_string(FFFD "\xe1\x88\xb4") },
    { vaani_string("\"\\uD800\\u0000\""), vaani_string(FFFD "\0") },
    { vaani_string("\"\\uDC00\\uD800\""), vaani_string(FFFD FFFD) },
    { vaani_string("\"\\uDd1e\\uD834\""), vaani_string(FFFD FFFD) },
    { vaani_string("\"\\uDd1ea\""), vaani_string(FFFD "a") },
    { vaani_string("\"\\uD834\\uDD1E\\uDD1E\""),
      vaani_string("\xf0\x9d\x84\x9e" FFFD) },
    { vaani_string("\"\\uD834\\uD834\\uDD1E\""),
      vaani_string(FFFD "\xf0\x9d\x84\x9e") },
    { vaani_string("\"\\uD83D \\uDE00\""), vaani_string(FFFD " " FFFD) },
    { vaani_string("\"\\u0000\\ud83d\""), vaani_string("\0" FFFD) },
    { vaani_string("\"\xef\xbf\xbd\\ud83d\""), vaani_string(FFFD FFFD) }
};


#define Z10  "0000000000"
#define Z50  Z10 Z10 Z10 Z10 Z10
#define Z100 Z50 Z50
#define N10  "9999999999"
#define N50  N10 N10 N10 N10 N10
#define MAX  VAANI_JSON_MAX_INT

#define NEGATIVE  "must not be negative"
#define INFINITE  "must be finite"


static const json_integer_t  integers[] = {

    { "0", 0, 0, NULL },
    { "1", 0, 1, NULL },
    { "9", 0, 9, NULL },
    { "10", 0, 10, NULL },
    { "42500", 0, 42500, NULL },
    { "1234567890123456", 0, 1234567890123456, NULL },

    /* seconds to milliseconds */

    { "0", 3, 0, NULL },
    { "1", 3, 1000, NULL },
    { "42.5", 3, 42500, NULL },
    { "0.001", 3, 1, NULL },
    { "0.1", 3, 100, NULL },
    { "0.3", 3, 300, NULL },
    { "1.005", 3, 1005, NULL },
    { "2.675", 3, 2675, NULL },
    { "3600.125", 3, 3600125, NULL },
    { "12345678.9", 3, 12345678900, NULL },

    /* other shifts */

    { "42.5", 6, 42500000, NULL },
    { "42500", -3, 43, NULL },
    { "42499", -3, 42, NULL },
    { "500", -3, 1, NULL },
    { "499", -3, 0, NULL },
    { "5", -3, 0, NULL },

    /* halves are rounded away from zero, not to even */

    { "0.5", 0, 1, NULL },
    { "1.5", 0, 2, NULL },
    { "2.5", 0, 3, NULL },
    { "3.5", 0, 4, NULL },
    { "0.4", 0, 0, NULL },
    { "0.49", 0, 0, NULL },
    { "0.49999999999999999999999999999", 0, 0, NULL },
    { "0.50000000000000000000000000000", 0, 1, NULL },
    { "0.05", 0, 0, NULL },
    { "0.09", 0, 0, NULL },
    { "0.95", 0, 1, NULL },
    { "1.4999", 0, 1, NULL },
    { "1.45", 0, 1, NULL },
    { "9.5", 0, 10, NULL },
    { "99999.5", 0, 100000, NULL },
    { "0.0005", 3, 1, NULL },
    { "0.00049", 3, 0, NULL },
    { "0.000499999999999999999999999999999", 3, 0, NULL },
    { "0.0015", 3, 2, NULL },
    { "0.0025", 3, 3, NULL },
    { "1.0005", 3, 1001, NULL },
    { "1.00049999", 3, 1000, NULL },
    { "42.4995", 3, 42500, NULL },
    { "1.0000000000000000000000005", 0, 1, NULL },
    { "4503599627370496.5", 0, 4503599627370497, NULL },
    { "4503599627370496.4999999999999999", 0, 4503599627370496, NULL },
    { "4503599627370497.5", 0, 4503599627370498, NULL },
    { "4503599627370.4965", 3, 4503599627370497, NULL },

    /* exponents */

    { "1e0", 0, 1, NULL },
    { "1e+0", 0, 1, NULL },
    { "1e-0", 0, 1, NULL },
    { "1e3", 0, 1000, NULL },
    { "1E3", 0, 1000, NULL },
    { "1e+3", 0, 1000, NULL },
    { "1E+03", 0, 1000, NULL },
    { "4.25e4", 0, 42500, NULL },
    { "4.25e1", 3, 42500, NULL },
    { "425e-1", 3, 42500, NULL },
    { "42500e-3", 3, 42500, NULL },
    { "0.0425e3", 3, 42500, NULL },
    { "5e-1", 0, 1, NULL },
    { "4e-1", 0, 0, NULL },
    { "5e-2", 0, 0, NULL },
    { "5e-4", 3, 1, NULL },
    { "15E-1", 0, 2, NULL },
    { "1e15", 0, 1000000000000000, NULL },
    { "1e000000000000000000000000000000000000000003", 0, 1000, NULL },
    { "1e-00000000000000000000000000000000000000001", 0, 0, NULL },
    { "0." Z50 "1e51", 0, 1, NULL },
    { "0." Z50 "5e50", 0, 1, NULL },
    { "0." Z50 "4e50", 0, 0, NULL },
    { "0." Z100 "425e106", 0, 425000, NULL },
    { "1" Z50 "e-50", 0, 1, NULL },
    { "15" Z50 "e-51", 0, 2, NULL },
    { "1" Z100 "e-98", 3, 100000, NULL },
    { "123456789012345678901234567890e-25", 0, 12346, NULL },

    /* huge and tiny ones */

    { "1e-20", 0, 0, NULL },
    { "1e-400", 0, 0, NULL },
    { "9e-400", 3, 0, NULL },
    { "123.456e-789", 0, 0, NULL },
    { "1e-2147483648", 0, 0, NULL },
    { "1e-2147483649", 0, 0, NULL },
    { "1e-4294967296", 0, 0, NULL },
    { "1e-9223372036854775808", 0, 0, NULL },
    { "1e-9223372036854775809", 0, 0, NULL },
    { "1e-18446744073709551616", 0, 0, NULL },
    { "1e-" N50 N50, 0, 0, NULL },
    { "1e17", 0, MAX, NULL },
    { "1e100", 0, MAX, NULL },
    { "1e307", 0, MAX, NULL },
    { "1e308", 0, MAX, NULL },
    { "1e308", 3, MAX, NULL },
    { "9.99e308", 0, MAX, NULL },
    { "9.99e308", 3, MAX, NULL },
    { "99.9e307", 0, MAX, NULL },
    { "0.01e310", 0, MAX, NULL },
    { "1e309", 0, 0, INFINITE },
    { "1e309", 3, 0, INFINITE },
    { "1e309", -300, 0, INFINITE },
    { "10e308", 0, 0, INFINITE },
    { "0.1e310", 0, 0, INFINITE },
    { "0.01e311", 0, 0, INFINITE },
    { "1e310", 0, 0, INFINITE },
    { "1e2147483647", 0, 0, INFINITE },
    { "1e2147483648", 0, 0, INFINITE },
    { "1e4294967296", 0, 0, INFINITE },
    { "1e4294967297", 0, 0, INFINITE },
    { "1e9223372036854775807", 0, 0, INFINITE },
    { "1e9223372036854775808", 0, 0, INFINITE },
    { "1e18446744073709551616", 0, 0, INFINITE },
    { "1e18446744073709551617", 0, 0, INFINITE },
    { "1e" N50 N50, 0, 0, INFINITE },

    /* zero has any exponent */

    { "0e0", 0, 0, NULL },
    { "0e5", 0, 0, NULL },
    { "0e309", 0, 0, NULL },
    { "0.000e9999", 0, 0, NULL },
    { "0e" N50, 3, 0, NULL },
    { "0e-" N50, 3, 0, NULL },
    { "0." Z100 Z100 Z100 Z100, 3, 0, NULL },
    { "0." Z100 Z100 Z100 Z100 "1", 3, 0, NULL },

    /* below zero */

    { "-0", 0, 0, NULL },
    { "-0", 3, 0, NULL },
    { "-0.0", 3, 0, NULL },
    { "-0e7", 3, 0, NULL },
    { "-0.00E-309", 3, 0, NULL },
    { "-0e" N50, 0, 0, NULL },
    { "-1", 0, 0, NEGATIVE },
    { "-42.5", 3, 0, NEGATIVE },
    { "-0.5", 0, 0, NEGATIVE },
    { "-0.0001", 0, 0, NEGATIVE },
    { "-0.00000000000000000000000000000000000001", 0, 0, NEGATIVE },
    { "-1e-400", 0, 0, NEGATIVE },
    { "-1e308", 0, 0, NEGATIVE },
    { "-1e309", 0, 0, NEGATIVE },
    { "-1e" N50, 0, 0, NEGATIVE },
    { "-9007199254740993", 0, 0, NEGATIVE },

    /* the largest integer that is given */

    { "9007199254740990", 0, 9007199254740990, NULL },
    { "9007199254740991", 0, MAX, NULL },
    { "9007199254740992", 0, MAX, NULL },
    { "9007199254740993", 0, MAX, NULL },
    { "9007199254740989.5", 0, 9007199254740990, NULL },
    { "9007199254740990.4", 0, 9007199254740990, NULL },
    { "9007199254740990.5", 0, MAX, NULL },
    { "9007199254740991.4", 0, MAX, NULL },
    { "9007199254740991.5", 0, MAX, NULL },
    { "9007199254740.990", 3, 9007199254740990, NULL },
    { "9007199254740.991", 3, MAX, NULL },
    { "9007199254740.992", 3, MAX, NULL },
    { "9007199254740.9904", 3, 9007199254740990, NULL },
    { "9007199254740.9905", 3, MAX, NULL },
    { "9007199254741", 3, MAX, NULL },
    { "9.00719925474099e15", 0, 9007199254740990, NULL },
    { "90071992547409900e-1", 0, 9007199254740990, NULL },
    { "900719925474099049e-2", 0, 9007199254740990, NULL },
    { "900719925474099050e-2", 0, MAX, NULL },
    { "9007199254740990499999e-6", 0, 9007199254740990, NULL },
    { "18014398509481984", 0, MAX, NULL },
    { "4294967295", 0, 4294967295, NULL },
    { "4294967296", 0, 4294967296, NULL },
    { "9223372036854775807", 0, MAX, NULL },
    { "9223372036854775808", 0, MAX, NULL },
    { "18446744073709551615", 0, MAX, NULL },
    { "18446744073709551616", 0, MAX, NULL },
    { "18446744073709551617", 3, MAX, NULL },
    { "99999999999999999", 0, MAX, NULL },
    { "999999999999999999", 0, MAX, NULL },
    { "9999999999999999999", 0, MAX, NULL },

    /* many digits: 18 are kept, cJSON reads 63, and the value needs all */

    { "1." N10 "9999999", 0, 2, NULL },
    { "1." N10 "99999999", 0, 2, NULL },
    { "1." N10 "999999999", 0, 2, NULL },
    { "123456789012.34567", 3, 123456789012346, NULL },
    { "123456789012.345678", 3, 123456789012346, NULL },
    { "12345678901.2344999999999999999999", 3, 12345678901234, NULL },
    { "12345678901.2345000000000000000000", 3, 12345678901235, NULL },
    { "1." N50 N10, 0, 2, NULL },
    { "1." N50 N10 "9", 0, 2, NULL },
    { "1." N50 N10 "99", 0, 2, NULL },
    { "7." Z50 Z10 "5", 0, 7, NULL },
    { "7." Z50 Z10 "55", 0, 7, NULL },
    { "7.4" N50 N10, 0, 7, NULL },
    { "7.5" Z50 Z10, 0, 8, NULL },
    { "7.5" Z50 Z10 "0", 0, 8, NULL },
    { "7.5" Z50 Z10 "00", 0, 8, NULL },
    { "0." Z50 Z10 "9e61", 0, 9, NULL },
    { "0." Z50 Z10 "09e62", 0, 9, NULL },
    { "0." Z50 Z10 "009e63", 0, 9, NULL },
    { "1" Z50 Z10 "0e-61", 0, 1, NULL },
    { "1" Z50 Z10 "00e-62", 0, 1, NULL },
    { "1" Z50 Z10 "000e-63", 0, 1, NULL },
    { "1" Z50 Z10 "0000e-64", 0, 1, NULL },
    { N50 N10 "999", 0, MAX, NULL },
    { N50 N10 "9999", 0, MAX, NULL },
    { N50 N50, 0, MAX, NULL },
    { N50 N50, -98, 100, NULL },
    { N50 N50 "e-98", 0, 100, NULL },
    { "42.5" Z100, 3, 42500, NULL },
    { "42.5" Z100 "e0", 3, 42500, NULL },
    { "425" Z100 "e-101", 3, 42500, NULL },
    { "0." Z100 "425e102", 3, 42500, NULL },

    /* 309 digits before the point are finite, 310 are not */

    { "1" Z100 Z100 Z100 "00000000", 0, MAX, NULL },
    { "1" Z100 Z100 Z100 "00000000.5", 3, MAX, NULL },
    { "9" Z100 Z100 Z100 "00000000", 0, MAX, NULL },
    { "1" Z100 Z100 Z100 "000000000", 0, 0, INFINITE },
    { "1" Z100 Z100 Z100 "000000000.5", 3, 0, INFINITE },
    { "1" Z100 Z100 Z100 "000000000e-1", 0, MAX, NULL },
    { "1" Z100 Z100 Z100 "000000000e-309", 0, 1, NULL },
    { "1" Z100 Z100 Z100 "000000000e-306", 0, 1000, NULL }
};


static const json_string_t  escapes[] = {

    { vaani_string(""), vaani_string("") },
    { vaani_string("room_123abc"), vaani_string("room_123abc") },
    { vaani_string("a/b"), vaani_string("a/b") },
    { vaani_string("\""), vaani_string("\\\"") },
    { vaani_string("\\"), vaani_string("\\\\") },
    { vaani_string("\"\\\"\\"), vaani_string("\\\"\\\\\\\"\\\\") },
    { vaani_string("a\"b\\c"), vaani_string("a\\\"b\\\\c") },
    { vaani_string("\0"), vaani_string("\\u0000") },
    { vaani_string("a\0b"), vaani_string("a\\u0000b") },
    { vaani_string("\b\t\n\f\r"),
      vaani_string("\\u0008\\u0009\\u000a\\u000c\\u000d") },
    { vaani_string("\x1f !"), vaani_string("\\u001f !") },
    { vaani_string("~\x7f"), vaani_string("~\\u007f") },

    { vaani_string("\xc3\xa9"), vaani_string("\xc3\xa9") },
    { vaani_string("\xe2\x82\xac"), vaani_string("\xe2\x82\xac") },
    { vaani_string("\xf0\x9d\x84\x9e"), vaani_string("\xf0\x9d\x84\x9e") },
    { vaani_string("\xf4\x8f\xbf\xbf"), vaani_string("\xf4\x8f\xbf\xbf") },
    { vaani_string("\xef\xbf\xbd"), vaani_string("\xef\xbf\xbd") },

    /* one replacement per invalid byte */

    { vaani_string("\x80"), vaani_string("\xef\xbf\xbd") },
    { vaani_string("\xff"), vaani_string("\xef\xbf\xbd") },
    { vaani_string("a\xff" "b"), vaani_string("a\xef\xbf\xbd" "b") },
    { vaani_string("\xc3"), vaani_string("\xef\xbf\xbd") },
    { vaani_string("\xc3\""), vaani_string("\xef\xbf\xbd\\\"") },
    { vaani_string("\xc3\xc3\xa9"), vaani_string("\xef\xbf\xbd\xc3\xa9") },
    { vaani_string("\xe2\x82"), vaani_string("\xef\xbf\xbd\xef\xbf\xbd") },
    { vaani_string("\xc0\x80"), vaani_string("\xef\xbf\xbd\xef\xbf\xbd") },
    { vaani_string("\xf0\x9d\x84"),
      vaani_string("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd") },
    { vaani_string("\xed\xa0\x80"),
      vaani_string("\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd") }
};


/*
 * texts to be cut, altered and run out of memory: together they have every
 * form
 */

static const vaani_str_t  samples[] = {
    vaani_string("{\"event\":\"call_ended\",\"room_name\":\"room_123abc\","
                 "\"call_duration\":42.5,\"end_reason\":null}"),
    vaani_string("[1,-2.5e+10,true,false,null,\"x\",[],{},[[0]],"
                 "{\"a\":{\"b\":[\"c\"]}}]"),
    vaani_string("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD834\\uDD1E"
                 "\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e plain text\""),
    vaani_string("{\"\\u0061\":1,\"b\":\"\\u0000\",\"\xc3\xa9\":[],"
                 "\"c\":{\"c\":0,\"c\":0}}"),
    vaani_string("{ \"k\" : \"v\" , \"l\" : [ 1 , 2 ] }"),
    vaani_string("[\"12345678\",\"\xed\x9f\xbf\xee\x80\x80\","
                 "\"\xf4\x8f\xbf\xbf\xe0\xa0\x80\xf0\x90\x80\x80\"]")
};


/* one byte of each kind, where all 256 would take too long */

static const u_char  borders[] = {
    0x00, 0x01, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x2f, 0x5b, 0x5c, 0x5d, 0x7e,
    0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xa2, 0xbf, 0xc0, 0xc1, 0xc2, 0xdc,
    0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5,
    0xf8, 0xfe, 0xff
};


static void
check_good(const u_char *data, size_t len, vaani_json_type_e type)
{
    int                  rc;
    vaani_json_t         json;
    const u_char        *text;
    vaani_json_error_t   error;
    vaani_test_arena_t   arena;

    vaani_test_arena_init(&arena);
    text = vaani_test_text(&arena, data, len);

    rc = vaani_json_scan(&json, text, len, &strict,
                         &arena.alloc, &error);

    vaani_test_that(rc == VAANI_OK, "%s: rc %d, \"%s\" at %zu",
                    vaani_test_show(data, len), rc,
                    (rc == VAANI_ERROR) ? error.message : "",
                    (rc == VAANI_ERROR) ? error.offset : 0);

    vaani_test_that(json.value.type == type, "%s: type %d",
                    vaani_test_show(data, len), json.value.type);

    vaani_test_that(type == VAANI_JSON_OBJECT || json.top.nmembers == 0,
                    "%s: %zu members", vaani_test_show(data, len),
                    json.top.nmembers);

    vaani_test_arena_free(&arena);
}


static void
check_bad(const u_char *data, size_t len, size_t offset, const char *message)
{
    int                  rc;
    vaani_json_t         json;
    const u_char        *text;
    vaani_json_error_t   error;
    vaani_test_arena_t   arena;

    vaani_test_arena_init(&arena);
    text = vaani_test_text(&arena, data, len);

    rc = vaani_json_scan(&json, text, len, &strict,
                         &arena.alloc, &error);

    vaani_test_that(rc == VAANI_ERROR, "%s: rc %d",
                    vaani_test_show(data, len), rc);

    vaani_test_that(error.offset == offset, "%s: \"%s\" at %zu, not at %zu",
                    vaani_test_show(data, len), error.message, error.offset,
                    offset);

    vaani_test_that(strcmp(error.message, message) == 0,
                    "%s: \"%s\", not \"%s\"", vaani_test_show(data, len),
                    error.message, message);

    vaani_test_arena_free(&arena);
}


/*
 * The scanner and the reference must agree on every text.
 */

static void
check_reference(const u_char *data, size_t len)
{
    check_scan(data, len, &strict);
    check_scan(data, len, &lenient);
}


static void
check_scan(const u_char *data, size_t len, const vaani_json_options_t *options)
{
    int                  rc, ok;
    vaani_ref_t          ref;
    vaani_json_t         json;
    const u_char        *text;
    vaani_json_error_t   error;
    vaani_test_arena_t   arena;

    vaani_test_arena_init(&arena);
    text = vaani_test_text(&arena, data, len);

    rc = vaani_json_scan(&json, text, len, options, &arena.alloc, &error);
    ok = vaani_ref_read(&ref, text, len, "data", options->unique);

    vaani_test_that(rc == (ok ? VAANI_OK : VAANI_ERROR), "%s: rc %d, \"%s\"",
                    vaani_test_show(data, len), rc,
                    (rc == VAANI_ERROR) ? error.message : "");

    if (ok) {
        vaani_test_that(json.value.type == ref.value.type
                        && json.value.raw.data == ref.value.raw.data
                        && json.value.raw.len == ref.value.raw.len
                        && json.value.decoded == ref.value.string.len
                        && json.value.lone == ref.value.lone,
                        "%s: type %d, %zu bytes", vaani_test_show(data, len),
                        json.value.type, json.value.raw.len);

        check_members(&json.top, &ref.top, text, len);
        check_members(&json.inner, &ref.inner, text, len);

    } else {
        vaani_test_that(text + error.offset == ref.bad,
                        "%s: \"%s\" at %zu, not at %zu",
                        vaani_test_show(data, len), error.message,
                        error.offset, (size_t) (ref.bad - text));
    }

    vaani_ref_free(&ref);
    vaani_test_arena_free(&arena);
}


static void
check_members(const vaani_json_members_t *list, const vaani_ref_list_t *ref,
    const u_char *text, size_t len)
{
    int                         rc;
    size_t                      n;
    vaani_str_t                 value;
    vaani_test_arena_t          arena;
    const vaani_ref_member_t   *r;
    const vaani_json_member_t  *m;

    vaani_test_arena_init(&arena);

    vaani_test_that(list->nmembers == ref->nmembers, "%s: %zu members, not %zu",
                    vaani_test_show(text, len), list->nmembers, ref->nmembers);

    for (n = 0; n < ref->nmembers; n++) {
        m = &list->members[n];
        r = &ref->members[n];

        vaani_test_that(vaani_str_eq(&m->key, &r->key)
                        && m->offset == r->offset
                        && m->raw.data == r->raw.data
                        && m->raw.len == r->raw.len
                        && m->type == r->type
                        && m->lone == r->lone,
                        "%s: member %zu", vaani_test_show(text, len), n);

        if (m->type != VAANI_JSON_STRING) {
            continue;
        }

        rc = vaani_json_string(m, &arena.alloc, &value);

        vaani_test_that(rc == VAANI_OK && m->decoded == r->string.len
                        && vaani_str_eq(&value, &r->string),
                        "%s: rc %d, string %zu",
                        vaani_test_show(text, len), rc, n);

        vaani_test_that(m->lone || vaani_ref_cjson_same(&m->raw, &value),
                        "%s: string %zu is another to cJSON",
                        vaani_test_show(text, len), n);
    }

    vaani_test_arena_free(&arena);
}


static void
test_good(void **state)
{
    size_t  n;

    (void) state;

    for (n = 0; n < vaani_test_nelems(good); n++) {
        check_good(good[n].text.data, good[n].text.len, good[n].type);
        check_reference(good[n].text.data, good[n].text.len);
    }
}


static void
test_bad(void **state)
{
    size_t  n;

    (void) state;

    for (n = 0; n < vaani_test_nelems(bad); n++) {
        check_bad(bad[n].text.data, bad[n].text.len, bad[n].offset,
                  bad[n].message);
        check_reference(bad[n].text.data, bad[n].text.len);
    }
}


/*
 * At any depth and in any container: offsets count from the start of the text,
 * and a text that is JSON is JSON as a part.
 */

static void
test_nested(void **state)
{
    char    text[1024];
    size_t  n, len;

    (void) state;

    for (n = 0; n < vaani_test_nelems(good); n++) {
        len = good[n].text.len;

        text[0] = '[';
        memcpy(text + 1, good[n].text.data, len);
        text[len + 1] = ']';
        check_good((u_char *) text, len + 2, VAANI_JSON_ARRAY);
        check_reference((u_char *) text, len + 2);

        memcpy(text, "{\"k\":", 5);
        memcpy(text + 5, good[n].text.data, len);
        text[len + 5] = '}';
        check_good((u_char *) text, len + 6, VAANI_JSON_OBJECT);
        check_reference((u_char *) text, len + 6);
    }

    for (n = 0; n < vaani_test_nelems(bad); n++) {
        len = bad[n].text.len;

        /*
         * a nested duplicate is not an error, an end is not the end any more
         */

        memcpy(text, " [ ", 3);
        memcpy(text + 3, bad[n].text.data, len);
        text[len + 3] = ']';
        check_reference((u_char *) text, len + 4);

        memcpy(text, "{\"k\":", 5);
        memcpy(text + 5, bad[n].text.data, len);
        text[len + 5] = '}';
        check_reference((u_char *) text, len + 6);

        if (strcmp(bad[n].message, DUPLICATE) != 0
            && strcmp(bad[n].message, AFTER) != 0
            && strcmp(bad[n].message, END) != 0)
        {
            check_bad((u_char *) text, len + 5, bad[n].offset + 5,
                      bad[n].message);
        }
    }
}


static void
test_prefixes(void **state)
{
    size_t              i, n;
    const u_char       *text;
    vaani_json_t        json;
    vaani_json_error_t  error;
    vaani_test_arena_t  arena;

    (void) state;

    vaani_test_arena_init(&arena);

    for (i = 0; i < vaani_test_nelems(samples); i++) {

        check_good(samples[i].data, samples[i].len,
                   (samples[i].data[0] == '{') ? VAANI_JSON_OBJECT
                   : (samples[i].data[0] == '[') ? VAANI_JSON_ARRAY
                                                 : VAANI_JSON_STRING);

        for (n = 0; n < samples[i].len; n++) {
            text = vaani_test_text(&arena, samples[i].data, n);

            assert_int_equal(vaani_json_scan(&json, text, n, &strict,
                                             &arena.alloc, &error),
                             VAANI_ERROR);

            /* the part so far is valid, or begins a character */

            vaani_test_that(error.offset == n
                            ? strcmp(error.message, END) == 0
                            : n - error.offset < 4
                              && strcmp(error.message, UTF8) == 0,
                            "%s: \"%s\" at %zu", vaani_test_show(text, n),
                            error.message, error.offset);

            check_reference(samples[i].data, n);
        }

        vaani_test_arena_free(&arena);
    }
}


static void
test_trailing_byte(void **state)
{
    size_t    i, len;
    u_char    text[256];
    unsigned  c;

    (void) state;

    for (i = 0; i < vaani_test_nelems(samples); i++) {
        len = samples[i].len;
        memcpy(text, samples[i].data, len);

        for (c = 0; c < 256; c++) {
            text[len] = c;

            if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
                check_good(text, len + 1,
                           (text[0] == '{') ? VAANI_JSON_OBJECT
                           : (text[0] == '[') ? VAANI_JSON_ARRAY
                                              : VAANI_JSON_STRING);
            } else {
                check_bad(text, len + 1, len, AFTER);
            }
        }
    }
}


static void
test_replaced_byte(void **state)
{
    size_t    i, n;
    u_char    text[256];
    unsigned  c;

    (void) state;

    for (i = 0; i < vaani_test_nelems(samples); i++) {
        memcpy(text, samples[i].data, samples[i].len);

        for (n = 0; n < samples[i].len; n++) {
            for (c = 0; c < 256; c++) {
                text[n] = c;
                check_reference(text, samples[i].len);
            }

            text[n] = samples[i].data[n];
        }
    }
}


static void
test_inserted_and_removed_byte(void **state)
{
    size_t  i, n, k, len;
    u_char  text[256];

    (void) state;

    for (i = 0; i < vaani_test_nelems(samples); i++) {
        len = samples[i].len;

        for (n = 0; n <= len; n++) {
            memcpy(text, samples[i].data, n);
            memcpy(text + n + 1, samples[i].data + n, len - n);

            for (k = 0; k < sizeof(borders); k++) {
                text[n] = borders[k];
                check_reference(text, len + 1);
            }

            /* the byte at n was removed: from text + 1 on, bytes were moved */

            if (n < len) {
                memcpy(text + n, samples[i].data + n + 1, len - n - 1);
                check_reference(text, len - 1);
            }
        }
    }
}


/*
 * Every pair and every triple of tokens, most of them wrong.
 */

static void
test_token_sequences(void **state)
{
    char                text[64];
    size_t              i, j, k;
    static const char  *tokens[] = {
        "", "[", "]", "{", "}", ",", ":", " ", "null", "true", "0", "-1.5e2",
        "\"\"", "\"a\"", "\"a\":", "\"b\":1", "\"\\u0061\":2,", "[]", "{}", "x"
    };

    (void) state;

    for (i = 0; i < vaani_test_nelems(tokens); i++) {
        for (j = 0; j < vaani_test_nelems(tokens); j++) {
            for (k = 0; k < vaani_test_nelems(tokens); k++) {

                sprintf(text, "%s%s%s", tokens[i], tokens[j], tokens[k]);
                check_reference((u_char *) text, strlen(text));

                sprintf(text, "{%s%s%s}", tokens[i], tokens[j], tokens[k]);
                check_reference((u_char *) text, strlen(text));

                sprintf(text, "[%s%s%s]", tokens[i], tokens[j], tokens[k]);
                check_reference((u_char *) text, strlen(text));
            }
        }
    }
}


/*
 * Every sequence of up to five characters that can be a part of a number.
 */

static void
test_number_sequences(void **state)
{
    u_char             text[6];
    size_t             n, len, all, rest;
    static const char  alphabet[] = "-+0159.eE ";

    (void) state;

    for (len = 1, all = 10; len <= 5; len++, all *= 10) {

        for (n = 0; n < all; n++) {

            rest = n;
            for (text[len] = len; text[len]; rest /= 10) {
                text[--text[len]] = alphabet[rest % 10];
            }

            check_reference(text, len);
        }
    }
}


static void
test_depth(void **state)
{
    char    text[8 * VAANI_JSON_MAX_DEPTH];
    size_t  n, max;

    (void) state;

    assert_int_equal(VAANI_JSON_MAX_DEPTH, 512);

    max = VAANI_JSON_MAX_DEPTH;

    /* arrays */

    memset(text, '[', max);
    memset(text + max, ']', max + 1);

    check_good((u_char *) text, 2 * max, VAANI_JSON_ARRAY);
    check_bad((u_char *) text, 2 * max - 1, 2 * max - 1, END);
    check_bad((u_char *) text, 2 * max + 1, 2 * max, AFTER);
    check_reference((u_char *) text, 2 * max);

    memset(text, '[', max + 1);
    memset(text + max + 1, ']', max + 1);

    check_bad((u_char *) text, max, max, END);
    check_bad((u_char *) text, max + 1, max, DEPTH);
    check_bad((u_char *) text, 2 * max + 2, max, DEPTH);
    check_reference((u_char *) text, 2 * max + 2);

    /* an object is as deep as an array, and too deep as an array's element */

    text[max] = '{';
    text[max + 1] = '}';

    check_bad((u_char *) text, 2 * max + 2, max, DEPTH);

    text[max - 1] = '{';
    text[max] = '}';
    memset(text + max + 1, ']', max - 1);

    check_good((u_char *) text, 2 * max, VAANI_JSON_ARRAY);

    /* objects */

    for (n = 0; n < max; n++) {
        memcpy(text + 5 * n, "{\"a\":", 5);
    }

    text[5 * max] = '1';
    memset(text + 5 * max + 1, '}', max);

    check_good((u_char *) text, 6 * max + 1, VAANI_JSON_OBJECT);
    check_reference((u_char *) text, 6 * max + 1);

    memcpy(text + 5 * max, "{}", 2);
    memset(text + 5 * max + 2, '}', max);

    check_bad((u_char *) text, 6 * max + 2, 5 * max, DEPTH);
    check_reference((u_char *) text, 6 * max + 2);

    /* closed levels do not count */

    text[0] = '[';
    for (n = 0; n < max; n++) {
        memcpy(text + 1 + 7 * n, "[[[]]],", 7);
    }

    text[7 * max] = ']';

    check_good((u_char *) text, 7 * max + 1, VAANI_JSON_ARRAY);
}


/*
 * Each level must remember its type: a closing bracket of the other type is an
 * error at all of them.
 */

static void
test_depth_kinds(void **state)
{
    char      text[8 * VAANI_JSON_MAX_DEPTH], shut[VAANI_JSON_MAX_DEPTH];
    size_t    n, len, end;
    unsigned  seed, round;

    (void) state;

    seed = 1;

    for (round = 0; round < 20; round++) {
        len = 0;

        for (n = 0; n < VAANI_JSON_MAX_DEPTH; n++) {
            seed = seed * 1103515245 + 12345;

            if (round == 0 ? n % 2 : seed >> 16 & 1) {
                memcpy(text + len, "{\"a\":", 5);
                len += 5;
                shut[n] = '}';

            } else {
                text[len++] = '[';
                shut[n] = ']';
            }
        }

        text[len++] = '0';
        end = len;

        while (n-- > 0) {
            text[len++] = shut[n];
        }

        check_reference((u_char *) text, len);
        check_good((u_char *) text, len,
                   (text[0] == '{') ? VAANI_JSON_OBJECT : VAANI_JSON_ARRAY);

        for (n = end; n < len; n++) {
            text[n] ^= ']' ^ '}';

            check_bad((u_char *) text, len, n,
                      (text[n] == ']') ? BRACE : BRACKET);

            text[n] ^= ']' ^ '}';
        }
    }
}


static void
test_many_brackets(void **state)
{
    char    *text;
    size_t   n;

    (void) state;

    text = vaani_test_malloc(600000);

    memset(text, '[', 100000);
    check_bad((u_char *) text, 100000, VAANI_JSON_MAX_DEPTH, DEPTH);

    for (n = 0; n < 100000; n++) {
        memcpy(text + 6 * n, "[{\"\":", 5);
        text[6 * n + 5] = ' ';
    }

    check_bad((u_char *) text, 600000, 6 * VAANI_JSON_MAX_DEPTH / 2, DEPTH);

    memset(text, ']', 100000);
    check_bad((u_char *) text, 100000, 0, VALUE);

    free(text);
}


/*
 * An empty text has no bytes to read and needs no memory.
 */

static void
test_empty(void **state)
{
    vaani_json_t        json;
    const u_char       *text;
    vaani_json_error_t  error;
    vaani_test_arena_t  arena;

    (void) state;

    vaani_test_arena_init(&arena);
    text = vaani_test_text(&arena, "", 0);

    assert_int_equal(vaani_json_scan(&json, text, 0, &strict,
                                     &arena.alloc, &error),
                     VAANI_ERROR);
    assert_int_equal(error.offset, 0);
    assert_string_equal(error.message, END);
    assert_int_equal(json.top.nmembers, 0);
    assert_int_equal(arena.nallocs, 0);

    assert_int_equal(vaani_json_scan(&json, NULL, 0, &strict,
                                     &arena.alloc, &error),
                     VAANI_ERROR);
    assert_int_equal(error.offset, 0);
    assert_string_equal(error.message, END);

    vaani_test_arena_free(&arena);
}


/*
 * Each code point, as itself and escaped, decoded and counted.
 */

static void
test_code_points(void **state)
{
    int                  rc;
    char                *text, *p, *value, *v;
    size_t               len;
    unsigned             cp, escaped;
    vaani_str_t          string;
    vaani_json_t         json;
    vaani_json_error_t   error;
    vaani_test_arena_t   arena;

    (void) state;

    text = vaani_test_malloc(12 * 0x110000 + 16);
    value = vaani_test_malloc(4 * 0x110000);

    for (escaped = 0; escaped < 2; escaped++) {
        p = text + sprintf(text, "{\"\":\"");
        v = value;

        for (cp = 0; cp <= 0x10ffff; cp++) {

            if (cp >= 0xd800 && cp <= 0xdfff) {
                continue;
            }

            v += put_utf8(v, cp);

            if (cp >= 0x10000 && escaped) {
                p += sprintf(p, "\\u%04x\\u%04X", 0xd7c0 + (cp >> 10),
                             0xdc00 + (cp & 0x3ff));

            } else if (cp < 0x20 || cp == '"' || cp == '\\' || escaped) {
                p += sprintf(p, (cp & 1) ? "\\u%04x" : "\\u%04X", cp);

            } else {
                p += put_utf8(p, cp);
            }
        }

        p += sprintf(p, "\"}");
        len = p - text;

        vaani_test_arena_init(&arena);

        rc = vaani_json_scan(&json, vaani_test_text(&arena, text, len), len,
                             &strict, &arena.alloc, &error);

        vaani_test_that(rc == VAANI_OK, "rc %d, \"%s\" at %zu", rc,
                        error.message, error.offset);

        assert_int_equal(json.top.nmembers, 1);
        assert_int_equal(json.top.members[0].raw.len, len - 5);
        assert_int_equal(json.top.members[0].decoded, v - value);

        assert_int_equal(vaani_json_string(&json.top.members[0], &arena.alloc,
                                           &string),
                         VAANI_OK);
        assert_int_equal(string.len, v - value);
        assert_memory_equal(string.data, value, string.len);

        vaani_test_arena_free(&arena);
    }

    free(text);
    free(value);
}


/*
 * Each code point in more bytes than needed, each surrogate, and code points
 * over U+10FFFF as far as a leading byte can encode them.
 */

static void
test_utf8_ill_formed(void **state)
{
    char      text[8];
    size_t    n;
    unsigned  cp;

    (void) state;

    text[0] = '"';

    for (cp = 0; cp < 0x10000; cp++) {

        if (cp < 0x80) {
            text[1] = 0xc0 | cp >> 6;
            text[2] = 0x80 | (cp & 0x3f);
            text[3] = '"';
            check_bad((u_char *) text, 4, 1, UTF8);
        }

        if (cp < 0x800 || (cp >= 0xd800 && cp <= 0xdfff)) {
            text[1] = 0xe0 | cp >> 12;
            text[2] = 0x80 | (cp >> 6 & 0x3f);
            text[3] = 0x80 | (cp & 0x3f);
            text[4] = '"';
            check_bad((u_char *) text, 5, 1, UTF8);
        }

        if (cp % 7 == 0 || cp > 0xfff0) {
            text[1] = 0xf0;
            text[2] = 0x80 | (cp >> 12 & 0x3f);
            text[3] = 0x80 | (cp >> 6 & 0x3f);
            text[4] = 0x80 | (cp & 0x3f);
            text[5] = '"';
            check_bad((u_char *) text, 6, 1, UTF8);
        }
    }

    for (cp = 0x110000; cp < 0x200000; cp += (cp < 0x110100) ? 1 : 257) {
        text[1] = 0xf0 | cp >> 18;
        text[2] = 0x80 | (cp >> 12 & 0x3f);
        text[3] = 0x80 | (cp >> 6 & 0x3f);
        text[4] = 0x80 | (cp & 0x3f);
        text[5] = '"';
        check_bad((u_char *) text, 6, 1, UTF8);
    }

    /* bytes that cannot begin a character */

    for (n = 0x80; n < 0x100; n++) {

        if (n >= 0xc2 && n <= 0xf4) {
            continue;
        }

        text[1] = n;
        memset(text + 2, 0xbf, 5);
        text[7] = '"';
        check_bad((u_char *) text, 8, 1, UTF8);
        text[2] = '"';
        check_bad((u_char *) text, 3, 1, UTF8);
    }
}


/*
 * All sequences of two bytes, and those near the limits of three and four.
 */

static void
test_utf8_sequences(void **state)
{
    u_char  text[8];
    size_t  i, j, k, m;

    (void) state;

    text[0] = '"';

    for (i = 0; i < 256; i++) {
        for (j = 0; j < 256; j++) {
            text[1] = i;
            text[2] = j;
            text[3] = '"';
            check_reference(text, 4);
        }
    }

    for (i = 0; i < sizeof(borders); i++) {
        for (j = 0; j < sizeof(borders); j++) {
            for (k = 0; k < sizeof(borders); k++) {
                text[1] = borders[i];
                text[2] = borders[j];
                text[3] = borders[k];
                text[4] = '"';
                check_reference(text, 5);

                /* ill-formed already, or a character and a rest */

                if (borders[i] < 0xf0) {
                    continue;
                }

                for (m = 0; m < sizeof(borders); m++) {
                    text[4] = borders[m];
                    text[5] = '"';
                    check_reference(text, 6);
                }
            }
        }
    }
}


/*
 * A character that is cut off, by each byte that may follow instead.
 */

static void
test_utf8_truncated(void **state)
{
    size_t              i, j, n, cut, len, after;
    u_char              text[32];
    static const char  *chars[] = {
        "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xe1\x80\x80",
        "\xed\x9f\xbf", "\xef\xbf\xbf", "\xf0\x90\x80\x80",
        "\xf1\x80\x80\x80", "\xf4\x8f\xbf\xbf"
    };
    static const char  *next[] = {
        "", "\"", "a\"", "\\n\"", "\n\"", "\xc3\xa9\"", "\xf0\x9d\x84\x9e\"",
        "\xff\"", "\x7f\""
    };

    (void) state;

    for (i = 0; i < vaani_test_nelems(chars); i++) {
        len = strlen(chars[i]);

        for (cut = 1; cut < len; cut++) {
            for (j = 0; j < vaani_test_nelems(next); j++) {

                /* plain text before it, for the path in steps of eight */

                for (n = 0; n <= 9; n++) {
                    text[0] = '"';
                    memset(text + 1, 'a', n);
                    memcpy(text + 1 + n, chars[i], cut);
                    after = strlen(next[j]);
                    memcpy(text + 1 + n + cut, next[j], after);

                    check_bad(text, 1 + n + cut + after, 1 + n, UTF8);
                    check_reference(text, 1 + n + cut + after);
                }
            }
        }
    }
}


static void
test_control_characters(void **state)
{
    u_char    text[48];
    size_t    n;
    unsigned  c;

    (void) state;

    for (c = 0; c < 0x20; c++) {
        for (n = 0; n <= 17; n++) {
            memset(text, 'x', sizeof(text));
            text[0] = '"';
            text[1 + n] = c;
            text[20] = '"';

            check_bad(text, 21, 1 + n, CONTROL);
            check_bad(text, 2 + n, 1 + n, CONTROL);

            /* in a key */

            memmove(text + 1, text, 21);
            memcpy(text + 22, ":1}", 3);
            text[0] = '{';
            check_bad(text, 25, 2 + n, CONTROL);
        }

        /* outside strings only four of them are allowed */

        text[0] = c;
        text[1] = '1';

        if (c == '\t' || c == '\n' || c == '\r') {
            check_good(text, 2, VAANI_JSON_NUMBER);

        } else {
            check_bad(text, 2, 0, VALUE);
        }
    }
}


/*
 * Plain text is passed eight bytes at a time.  One special byte at each place
 * among plain ones that neighbour the special ones in value, with rests of
 * each length after it.
 */

static void
test_plain_one(void **state)
{
    u_char              text[64], c;
    size_t              n, k, i, rest, len;
    static const char   fill[] = "a !#[]\x7f";

    (void) state;

    for (n = 0; n <= 16; n++) {
        for (rest = 0; rest <= 16; rest++) {
            for (k = 0; k < sizeof(fill) - 1; k++) {
                for (i = 0; i < 256; i++) {
                    c = i;

                    if (memchr(borders, c, sizeof(borders)) == NULL
                        && (rest != 9 || k > 1))
                    {
                        continue;
                    }

                    text[0] = '"';
                    memset(text + 1, fill[k], n);
                    text[1 + n] = c;
                    memset(text + 2 + n, fill[k], rest);
                    text[2 + n + rest] = '"';
                    len = 3 + n + rest;

                    if (c == '"') {
                        check_bad(text, len, 2 + n
                                  + ((fill[k] == ' ') ? rest : 0), AFTER);

                    } else if (c == '\\') {

                        if (rest) {
                            check_bad(text, len, 1 + n, ESCAPE);

                        } else {
                            check_bad(text, len, len, END);
                        }

                    } else if (c < 0x20) {
                        check_bad(text, len, 1 + n, CONTROL);

                    } else if (c >= 0x80) {
                        check_bad(text, len, 1 + n, UTF8);

                    } else {
                        check_good(text, len, VAANI_JSON_STRING);
                    }
                }
            }
        }
    }
}


/*
 * Two special bytes: the arithmetic on one of them may borrow from the other.
 * The text lies at each alignment too.
 */

static void
test_plain_two(void **state)
{
    u_char  text[64];
    size_t  i, j, k, m, n, len;

    (void) state;

    for (i = 0; i < 8; i++) {
        for (j = i + 1; j <= 8; j++) {
            for (k = 0; k < sizeof(borders); k++) {
                for (m = 0; m < sizeof(borders); m++) {
                    n = (k + m) % 8;

                    memset(text, ' ', n);
                    text[n] = '"';
                    memset(text + n + 1, 'x', 16);
                    text[n + 1 + i] = borders[k];
                    text[n + 1 + j] = borders[m];
                    text[n + 17] = '"';
                    len = n + 18;

                    check_reference(text, len);
                }
            }
        }
    }
}


static void
test_plain_lengths(void **state)
{
    u_char  text[320];
    size_t  n;

    (void) state;

    /* plain strings and keys of each length, with an escape at both ends */

    for (n = 0; n <= 300; n++) {
        text[0] = '"';
        memset(text + 1, 'a' + n % 26, n);
        text[n + 1] = '"';

        check_good(text, n + 2, VAANI_JSON_STRING);
        check_bad(text, n + 1, n + 1, END);

        memcpy(text, "{\"\\n", 4);
        memset(text + 4, 'a' + n % 26, n);
        memcpy(text + n + 4, "\\t\":\"\"}", 7);

        check_reference(text, n + 11);
    }
}


static void
test_members(void **state)
{
    int                         rc;
    size_t                      n;
    vaani_json_t                json;
    const u_char               *text;
    vaani_json_error_t          error;
    vaani_test_arena_t          arena;
    const vaani_json_member_t  *m;

    static const vaani_str_t  body = vaani_string(
        "\n{ \"null\" : null ,\"true\":true\t,\n\"false\"\r:\rfalse, "
        "\"int\":  -12  , \"real\":1.50e+01,\"string\" : \" a b \" ,"
        "\"empty\":\"\",\"array\":\t[ 1, [2] , {\"x\":3} ]\n,"
        "\"none\":[]\n,\"object\":\n { \"string\":{ \"y\":[{}] } } ,"
        "\"nil\": { } , \"\" : 0 ,\"esc\\u0061ped\\n\":\"\\u0062\\n\","
        "\"\xc3\xa9\":\"\xf0\x9d\x84\x9e\",\"nul\\u0000\":\"a\\u0000b\"} \n");

    static const struct {
        vaani_str_t        key;
        const char        *quoted;
        vaani_str_t        raw;
        vaani_json_type_e  type;
        size_t             decoded;
    } expected[] = {
        { vaani_string("null"), "\"null\" ", vaani_string("null"),
          VAANI_JSON_NULL, 0 },
        { vaani_string("true"), "\"true\":", vaani_string("true"),
          VAANI_JSON_BOOLEAN, 0 },
        { vaani_string("false"), "\"false\"\r", vaani_string("false"),
          VAANI_JSON_BOOLEAN, 0 },
        { vaani_string("int"), "\"int\":", vaani_string("-12"),
          VAANI_JSON_NUMBER, 0 },
        { vaani_string("real"), "\"real\":", vaani_string("1.50e+01"),
          VAANI_JSON_NUMBER, 0 },
        { vaani_string("string"), "\"string\" ", vaani_string("\" a b \""),
          VAANI_JSON_STRING, 5 },
        { vaani_string("empty"), "\"empty\":", vaani_string("\"\""),
          VAANI_JSON_STRING, 0 },
        { vaani_string("array"), "\"array\":",
          vaani_string("[ 1, [2] , {\"x\":3} ]"), VAANI_JSON_ARRAY, 0 },
        { vaani_string("none"), "\"none\":", vaani_string("[]"),
          VAANI_JSON_ARRAY, 0 },
        { vaani_string("object"), "\"object\":",
          vaani_string("{ \"string\":{ \"y\":[{}] } }"),
          VAANI_JSON_OBJECT, 0 },
        { vaani_string("nil"), "\"nil\":", vaani_string("{ }"),
          VAANI_JSON_OBJECT, 0 },
        { vaani_string(""), "\"\" :", vaani_string("0"),
          VAANI_JSON_NUMBER, 0 },
        { vaani_string("escaped\n"), "\"esc\\u0061",
          vaani_string("\"\\u0062\\n\""), VAANI_JSON_STRING, 2 },
        { vaani_string("\xc3\xa9"), "\"\xc3\xa9\":",
          vaani_string("\"\xf0\x9d\x84\x9e\""), VAANI_JSON_STRING, 4 },
        { vaani_string("nul\0"), "\"nul\\u0000\"",
          vaani_string("\"a\\u0000b\""), VAANI_JSON_STRING, 3 }
    };

    (void) state;

    vaani_test_arena_init(&arena);
    text = vaani_test_text(&arena, body.data, body.len);

    rc = vaani_json_scan(&json, text, body.len, &strict,
                         &arena.alloc, &error);

    assert_int_equal(rc, VAANI_OK);
    assert_int_equal(json.value.type, VAANI_JSON_OBJECT);
    assert_int_equal(json.top.nmembers, vaani_test_nelems(expected));

    for (n = 0; n < json.top.nmembers; n++) {
        m = &json.top.members[n];

        vaani_test_that(vaani_str_eq(&m->key, &expected[n].key),
                        "member %zu: key %s", n,
                        vaani_test_show_str(&m->key));

        vaani_test_that(vaani_str_eq(&m->raw, &expected[n].raw),
                        "member %zu: raw %s", n, vaani_test_show_str(&m->raw));

        vaani_test_that(m->raw.data > text
                        && m->raw.data + m->raw.len < text + body.len,
                        "member %zu isn't a slice", n);

        vaani_test_that(m->type == expected[n].type, "member %zu: type %d", n,
                        m->type);

        vaani_test_that(m->decoded == expected[n].decoded,
                        "member %zu: decoded %zu", n, m->decoded);

        vaani_test_that(memcmp(text + m->offset, expected[n].quoted,
                               strlen(expected[n].quoted)) == 0,
                        "member %zu: offset %zu", n, m->offset);

        vaani_test_that(vaani_json_find(&json.top, &expected[n].key) == m,
                        "member %zu isn't found", n);
    }

    check_reference(body.data, body.len);

    /* nothing but the two escaped keys had to be copied */

    assert_int_equal(arena.nallocs, 2);

    vaani_test_arena_free(&arena);
}


static void
test_members_of_others(void **state)
{
    size_t               n;
    vaani_str_t          key;
    vaani_json_t         json;
    vaani_json_error_t   error;
    vaani_test_arena_t   arena;

    static const vaani_str_t  texts[] = {
        vaani_string("{}"),
        vaani_string("[{\"a\":1}]"),
        vaani_string("[[{\"a\":1}],{\"a\":2}]"),
        vaani_string("\"a\""),
        vaani_string("null"),
        vaani_string("{\"b\":{\"a\":1}}"),
        vaani_string("{\"b\":[{\"a\":1}]}"),
        vaani_string("{\"A\":1,\"aa\":2,\"\":3,\"a\\u0000\":4,\"\\u0000a\":5}")
    };

    (void) state;

    key.data = (u_char *) "a";
    key.len = 1;

    for (n = 0; n < vaani_test_nelems(texts); n++) {
        vaani_test_arena_init(&arena);

        assert_int_equal(vaani_json_scan(&json, texts[n].data, texts[n].len,
                                         &strict, &arena.alloc, &error),
                         VAANI_OK);

        vaani_test_that(vaani_json_find(&json.top, &key) == NULL, "%s",
                        vaani_test_show_str(&texts[n]));

        vaani_test_arena_free(&arena);
    }
}


/*
 * As many members as the preallocated ones, and more and more.
 */

static void
test_members_many(void **state)
{
    int                          rc;
    char                        *text, name[32];
    size_t                       i, n, len;
    vaani_str_t                  key;
    vaani_json_t                 json;
    vaani_json_error_t           error;
    vaani_test_arena_t           arena;
    const vaani_json_member_t   *m;
    static const size_t          counts[] = {
        0, 1, 2, 15, 16, 17, 18, 31, 32, 33, 64, 65, 1000, 4096
    };

    (void) state;

    text = vaani_test_malloc(32 * 5000);

    for (i = 0; i < vaani_test_nelems(counts); i++) {
        len = put_keys(text, counts[i]);

        vaani_test_arena_init(&arena);

        rc = vaani_json_scan(&json, vaani_test_text(&arena, text, len), len,
                             &strict, &arena.alloc, &error);

        vaani_test_that(rc == VAANI_OK, "%zu keys: rc %d", counts[i], rc);
        assert_int_equal(json.top.nmembers, counts[i]);

        for (n = 0; n < counts[i]; n++) {
            key.data = (u_char *) name;
            key.len = sprintf(name, "key%zu", n);

            m = &json.top.members[n];

            vaani_test_that(vaani_str_eq(&m->key, &key), "%zu keys: %s",
                            counts[i], vaani_test_show_str(&m->key));

            key.len = sprintf(name, "%zu", n);

            vaani_test_that(vaani_str_eq(&m->raw, &key), "%zu keys: %s",
                            counts[i], vaani_test_show_str(&m->raw));
        }

        key.data = (u_char *) "absent";
        key.len = 6;

        assert_null(vaani_json_find(&json.top, &key));

        /* in the usual case nothing is allocated */

        vaani_test_that((arena.nallocs == 0) == (counts[i] <= 16),
                        "%zu keys: %zu allocations", counts[i], arena.nallocs);

        vaani_test_arena_free(&arena);
    }

    free(text);
}


/*
 * One member more than may be listed, at the top and in "data".  Elsewhere any
 * number of them is accepted, and takes no memory.
 */

static void
test_members_too_many(void **state)
{
    int                   rc;
    char                 *keys, *text, *last;
    size_t                i, n, len, before;
    vaani_json_t          json;
    vaani_json_error_t    error;
    vaani_test_arena_t    arena;
    vaani_json_options_t  options;

    static const struct {
        const char  *before;
        const char  *after;
        unsigned     listed;
    } places[] = {
        { "", "", 1 },
        { "{\"data\":", "}", 1 },
        { "{\"data\":{\"a\":1,\"b\":2},\"data\":", "}", 1 },
        { "{\"d\\u0061ta\":", ",\"x\":1}", 1 },
        { "{\"data\":[", "]}", 0 },
        { "{\"data\":{\"data\":", "}}", 0 },
        { "{\"other\":", ",\"data\":{}}", 0 },
        { "[", "]", 0 },
        { "[{\"data\":", "}]", 0 }
    };

    (void) state;

    assert_int_equal(VAANI_JSON_MAX_MEMBERS, 4096);

    keys = vaani_test_malloc(32 * 5000);
    text = vaani_test_malloc(32 * 5000 + 100);

    for (i = 0; i < vaani_test_nelems(places); i++) {
        for (n = 4095; n <= 4098; n++) {
            before = strlen(places[i].before);
            len = put_keys(keys, n);

            memcpy(text, places[i].before, before);
            memcpy(text + before, keys, len);
            memcpy(text + before + len, places[i].after,
                   strlen(places[i].after) + 1);

            len += before + strlen(places[i].after);

            if (places[i].listed && n > 4096) {
                last = strstr(text, "\"key4096\"");

                check_bad((u_char *) text, len, last - text, MANY);

            } else if (i == 2) {
                check_duplicate(text, len, before - strlen("\"data\":"));

            } else {
                check_good((u_char *) text, len,
                           text[0] == '[' ? VAANI_JSON_ARRAY
                                          : VAANI_JSON_OBJECT);
            }

            check_scan((u_char *) text, len, &lenient);

            vaani_test_arena_init(&arena);

            (void) vaani_json_scan(&json, (u_char *) text, len, &lenient,
                                   &arena.alloc, &error);

            vaani_test_that((arena.nallocs > 0) == places[i].listed,
                            "%s: %zu allocations", places[i].before,
                            arena.nallocs);

            vaani_test_arena_free(&arena);

            /* without a list inside, there is no limit there */

            options.inner = NULL;
            options.unique = 1;

            rc = vaani_json_scan(&json, (u_char *) text, len, &options,
                                 &arena.alloc, &error);

            vaani_test_that(rc == (i == 0 && n > 4096 ? VAANI_ERROR
                                   : i == 2 ? VAANI_ERROR : VAANI_OK),
                            "%s: rc %d", places[i].before, rc);
            assert_int_equal(json.inner.nmembers, 0);

            vaani_test_arena_free(&arena);

            rc = vaani_json_scan(&json, (u_char *) text, len, NULL,
                                 &arena.alloc, &error);

            assert_int_equal(rc, VAANI_OK);
            assert_int_equal(json.top.nmembers, 0);
            assert_int_equal(arena.nallocs, 0);
        }
    }

    free(keys);
    free(text);
}


/*
 * The members of "data"; if it is repeated, those of the last one, if that is
 * an object.
 */

static void
test_members_of_data(void **state)
{
    size_t                n;
    vaani_str_t           key;
    vaani_json_t          json;
    vaani_json_error_t    error;
    vaani_test_arena_t    arena;
    vaani_json_member_t  *member;

    static const struct {
        const char  *text;
        const char  *raw;           /* of its "a", NULL: there is none */
        size_t       nmembers;
    } rows[] = {
        { "{\"data\":{\"a\":1}}", "1", 1 },
        { "{\"a\":1,\"data\":{\"a\":2},\"a\":3}", "2", 1 },
        { "{\"data\":{\"a\":1,\"b\":{\"a\":2},\"c\":[{\"a\":3}]}}", "1", 3 },
        { "{\"data\":{\"a\":1,\"a\":2}}", "2", 2 },
        { "{\"data\":{\"a\":1},\"data\":{\"b\":2,\"a\":3}}", "3", 2 },
        { "{\"data\":{\"a\":1},\"data\":{}}", NULL, 0 },
        { "{\"data\":{\"a\":1},\"data\":null}", NULL, 0 },
        { "{\"data\":{\"a\":1},\"other\":{\"b\":2}}", "1", 1 },
        { "{\"d\\u0061ta\":{\"\\u0061\":1}}", "1", 1 },
        { "{\"data\":[{\"a\":1}]}", NULL, 0 },
        { "{\"data\":\"a\"}", NULL, 0 },
        { "{\"data\":[],\"b\":{\"a\":1}}", NULL, 0 },
        { "{\"other\":{\"data\":{\"a\":1}}}", NULL, 0 },
        { "{\"data\":{\"data\":{\"a\":1}}}", NULL, 1 },
        { "[{\"data\":{\"a\":1}}]", NULL, 0 },
        { "{\"Data\":{\"a\":1},\"data \":{\"a\":1}}", NULL, 0 }
    };

    (void) state;

    key.data = (u_char *) "a";
    key.len = 1;

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        vaani_test_arena_init(&arena);

        assert_int_equal(vaani_json_scan(&json, (u_char *) rows[n].text,
                                         strlen(rows[n].text), &lenient,
                                         &arena.alloc, &error),
                         VAANI_OK);

        member = vaani_json_find(&json.inner, &key);

        vaani_test_that(json.inner.nmembers == rows[n].nmembers,
                        "%s: %zu members", rows[n].text, json.inner.nmembers);

        vaani_test_that((member != NULL) == (rows[n].raw != NULL)
                        && (member == NULL
                            || (member->raw.len == strlen(rows[n].raw)
                                && memcmp(member->raw.data, rows[n].raw,
                                          member->raw.len) == 0)),
                        "%s", rows[n].text);

        vaani_test_arena_free(&arena);

        check_reference((u_char *) rows[n].text, strlen(rows[n].text));
    }
}


/*
 * In "data" a key must not be repeated either, but anywhere else it may.
 * Without that option the last one counts.
 */

static void
test_duplicates_of_data(void **state)
{
    size_t                n;
    vaani_str_t           key;
    vaani_json_t          json;
    vaani_json_error_t    error;
    vaani_test_arena_t    arena;
    vaani_json_member_t  *member;

    static const struct {
        const char  *text;
        size_t       offset;        /* 0: no error */
    } rows[] = {
        { "{\"data\":{\"a\":1,\"a\":2}}", 15 },
        { "{\"data\":{\"b\":1,\"\\u0062\":2},\"a\":1}", 15 },
        { "{\"data\":{\"a\":1,\"a\":2},\"b\":1,\"b\":2}", 28 },
        { "{\"data\":{\"a\":1},\"data\":{\"a\":1}}", 16 },
        { "{\"data\":{\"a\":1},\"a\":1}", 0 },
        { "{\"data\":{\"x\":{\"a\":1,\"a\":2}}}", 0 },
        { "{\"x\":{\"a\":1,\"a\":2}}", 0 },
        { "[{\"a\":1,\"a\":2}]", 0 }
    };

    (void) state;

    for (n = 0; n < vaani_test_nelems(rows); n++) {

        if (rows[n].offset) {
            check_duplicate(rows[n].text, strlen(rows[n].text),
                            rows[n].offset);

        } else {
            check_good((u_char *) rows[n].text, strlen(rows[n].text),
                       rows[n].text[0] == '[' ? VAANI_JSON_ARRAY
                                              : VAANI_JSON_OBJECT);
        }

        check_reference((u_char *) rows[n].text, strlen(rows[n].text));
    }

    vaani_test_arena_init(&arena);

    assert_int_equal(vaani_json_scan(&json, (u_char *) "{\"a\":1,\"a\":22}",
                                     14, &lenient, &arena.alloc, &error),
                     VAANI_OK);

    key.data = (u_char *) "a";
    key.len = 1;

    member = vaani_json_find(&json.top, &key);

    assert_int_equal(member->raw.len, 2);
    assert_int_equal(arena.nallocs, 0);
}


/*
 * The elements of an array.  Elements with errors beyond the grammar are
 * reported, and skipped.
 */

static void
test_elements(void **state)
{
    int                 rc;
    char               *text, *p;
    size_t              n, len;
    vaani_str_t         raw, array_raw;
    vaani_json_t        json;
    vaani_json_error_t  error;
    vaani_json_array_t  array;
    vaani_test_arena_t  arena;

    static const struct {
        const char         *raw;
        int                 rc;
        vaani_json_type_e   type;
        size_t              nmembers;
        size_t              ninner;
        const char         *message;
    } rows[] = {
        { "1", VAANI_OK, VAANI_JSON_NUMBER, 0, 0, NULL },
        { "{\"a\":1,\"data\":{\"b\":1}}", VAANI_OK, VAANI_JSON_OBJECT, 2, 1,
          NULL },
        { "{\"a\":{ },\"a\":[ ]}", VAANI_ERROR, VAANI_JSON_OBJECT, 0, 0,
          DUPLICATE },
        { "\"],\\\"\"", VAANI_OK, VAANI_JSON_STRING, 0, 0, NULL },
        { "[[1,2],[3]]", VAANI_OK, VAANI_JSON_ARRAY, 0, 0, NULL },
        { "{\"data\":{\"x\":[1],\"x\":2},\"b\":null}", VAANI_ERROR,
          VAANI_JSON_OBJECT, 0, 0, DUPLICATE },
        { NULL, VAANI_ERROR, VAANI_JSON_OBJECT, 0, 0, MANY },
        { "{}", VAANI_OK, VAANI_JSON_OBJECT, 0, 0, NULL }
    };

    (void) state;

    vaani_test_arena_init(&arena);

    text = vaani_test_malloc(32 * 5000);

    p = text + sprintf(text, "[ ");

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        p += sprintf(p, "%s\n", n ? "\t, " : "");

        if (rows[n].raw) {
            p += sprintf(p, "%s", rows[n].raw);

        } else {
            p += put_keys(p, 4097);
        }
    }

    p += sprintf(p, " ]");

    array_raw.len = p - text;
    array_raw.data = vaani_test_text(&arena, text, array_raw.len);

    check_good(array_raw.data, array_raw.len, VAANI_JSON_ARRAY);

    vaani_json_array(&array, &array_raw);

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        rc = vaani_json_element(&array, &json, &strict, &arena.alloc, &raw,
                                &error);

        vaani_test_that(rc == rows[n].rc, "element %zu: rc %d", n, rc);

        if (rows[n].raw) {
            len = strlen(rows[n].raw);

            vaani_test_that(raw.len == len
                            && memcmp(raw.data, rows[n].raw, len) == 0,
                            "element %zu: %s", n, vaani_test_show_str(&raw));

        } else {
            assert_int_equal(raw.len, put_keys(text, 4097));
        }

        if (rc == VAANI_OK) {
            vaani_test_that(json.value.type == rows[n].type
                            && json.top.nmembers == rows[n].nmembers
                            && json.inner.nmembers == rows[n].ninner,
                            "element %zu: type %d", n, json.value.type);

        } else {

            /* relative to the beginning of the array, it is the key */

            assert_string_equal(error.message, rows[n].message);
            assert_true(array_raw.data + error.offset > raw.data);
            assert_true(array_raw.data + error.offset < raw.data + raw.len);
            assert_int_equal(array_raw.data[error.offset], '"');
        }
    }

    for (n = 0; n < 2; n++) {
        assert_int_equal(vaani_json_element(&array, &json, &strict,
                                            &arena.alloc, &raw, &error),
                         VAANI_DONE);
    }

    /* none at all */

    array_raw.data = (u_char *) "[ \n]";
    array_raw.len = 4;

    vaani_json_array(&array, &array_raw);

    assert_int_equal(vaani_json_element(&array, &json, &strict, &arena.alloc,
                                        &raw, &error),
                     VAANI_DONE);

    /* memory that runs out */

    array_raw.data = (u_char *) "[{\"\\n\":1}]";
    array_raw.len = 10;

    vaani_json_array(&array, &array_raw);

    arena.nallocs = 0;
    arena.fail_at = 1;

    assert_int_equal(vaani_json_element(&array, &json, &strict, &arena.alloc,
                                        &raw, &error),
                     VAANI_NOMEM);

    vaani_test_arena_free(&arena);
    free(text);
}


/*
 * Line breaks between tokens are reported.  Strings have none.
 */

static void
test_line_breaks(void **state)
{
    size_t              n;
    vaani_json_t        json;
    vaani_json_error_t  error;
    vaani_test_arena_t  arena;

    static const struct {
        const char  *text;
        unsigned     broken;
    } rows[] = {
        { "{\"a\":[1, 2]}", 0 },
        { " {\t\"a\" : \"\\n\\r\" } ", 0 },
        { "\n1", 1 },
        { "1\r", 1 },
        { "[1\n]", 1 },
        { "{\"a\"\r:1}", 1 },
        { "{\"a\":1}\n", 1 }
    };

    (void) state;

    vaani_test_arena_init(&arena);

    for (n = 0; n < vaani_test_nelems(rows); n++) {
        assert_int_equal(vaani_json_scan(&json, (u_char *) rows[n].text,
                                         strlen(rows[n].text), &strict,
                                         &arena.alloc, &error),
                         VAANI_OK);

        vaani_test_that(json.broken == rows[n].broken, "%s", rows[n].text);
    }
}


static void
check_duplicate(const char *text, size_t len, size_t offset)
{
    check_bad((u_char *) text, len, offset, DUPLICATE);
}


/*
 * {"key0":0,"key1":1, ... }; at most 24 bytes a key.
 */

static size_t
put_keys(char *dst, size_t n)
{
    char    *p;
    size_t   i;

    p = dst;
    *p++ = '{';

    for (i = 0; i < n; i++) {
        p += sprintf(p, "%s\"key%zu\":%zu", i ? "," : "", i, i);
    }

    *p++ = '}';

    return p - dst;
}


/*
 * n keys of which the one at the place `second' is that at `first' once more,
 * as it is or escaped.
 */

static void
test_duplicates(void **state)
{
    char                *text, *p;
    size_t               i, j, n, k, first, second, offset;
    static const size_t  counts[] = { 2, 3, 15, 16, 17, 18, 33, 4096 };

    (void) state;

    text = vaani_test_malloc(48 * 5000);

    for (i = 0; i < vaani_test_nelems(counts); i++) {
        n = counts[i];

        for (j = 0; j < 5 * 2; j++) {
            first = (j / 2 == 1) ? n - 2 : (j / 2 < 3) ? 0 : n / 3;
            second = (j / 2 == 0) ? 1 : (j / 2 == 3) ? n / 3 + 1 : n - 1;

            p = text;
            *p++ = '{';
            offset = 0;

            for (k = 0; k < n; k++) {

                if (k) {
                    *p++ = ',';
                }

                if (k != second) {
                    p += sprintf(p, "\"key%zu\":%zu", k, k);
                    continue;
                }

                offset = p - text;
                p += sprintf(p, (j % 2) ? "\"\\u006bey%zu\":0"
                                        : "\"key%zu\":0", first);
            }

            *p++ = '}';

            check_duplicate(text, p - text, offset);

            if (n < 100) {
                check_reference((u_char *) text, p - text);
            }
        }
    }

    free(text);
}


/*
 * Of several duplicates the first one in the text counts, although many keys
 * are compared in the order of their sizes.
 */

static void
test_duplicates_first(void **state)
{
    char                *text, *p;
    size_t               i, k, n, offset;
    static const char    pairs[][2][16] = {
        { "zzzzzzzz", "a" }, { "a", "zzzzzzzz" }, { "b", "a" }, { "a", "b" },
        { "", "a" }, { "a", "" }
    };
    static const size_t  counts[] = { 0, 12, 13, 100, 4091 };

    (void) state;

    text = vaani_test_malloc(32 * 5000 + 100);

    for (i = 0; i < vaani_test_nelems(pairs); i++) {
        for (n = 0; n < vaani_test_nelems(counts); n++) {

            /* the first key's second time is before the second one's */

            p = text + sprintf(text, "{\"%s\":0,\"%s\":0", pairs[i][0],
                               pairs[i][1]);

            for (k = 0; k < counts[n]; k++) {
                p += sprintf(p, ",\"key%zu\":%zu", k, k);
            }

            offset = p - text + 1;
            p += sprintf(p, ",\"%s\":1,\"%s\":1}", pairs[i][0], pairs[i][1]);

            check_duplicate(text, p - text, offset);

            /* a key three times: the second one is reported */

            p = text + sprintf(text, "{\"%s\":0", pairs[i][0]);

            for (k = 0; k < counts[n]; k++) {
                p += sprintf(p, ",\"key%zu\":%zu", k, k);
            }

            offset = p - text + 1;
            p += sprintf(p, ",\"%s\":1,\"%s\":2,\"key0\":3,\"%s\":4}",
                         pairs[i][0], pairs[i][0], pairs[i][1]);

            check_duplicate(text, p - text, offset);
        }
    }

    /* all keys the same */

    for (n = 2; n <= 4096; n = (n < 40) ? n + 1 : n * 5) {
        p = text;

        for (k = 0; k < n; k++) {
            p += sprintf(p, "%c\"same\":%zu", k ? ',' : '{', k % 10);
        }

        *p++ = '}';

        check_duplicate(text, p - text, 10);
    }

    free(text);
}


/*
 * Keys that differ only in their last bytes, or that are prefixes of one
 * another, are different; in objects below the top they may be repeated.
 */

static void
test_duplicates_none(void **state)
{
    char    *text, *p;
    size_t   n, k;

    (void) state;

    text = vaani_test_malloc(400000);

    for (n = 2; n <= 260; n++) {
        p = text;

        for (k = 0; k < n; k++) {
            *p++ = k ? ',' : '{';
            *p++ = '"';
            memset(p, 'a', k);
            p += k;
            p += sprintf(p, "\":0");
        }

        *p++ = '}';

        check_good((u_char *) text, p - text, VAANI_JSON_OBJECT);
    }

    for (n = 2; n <= 5000; n *= 7) {
        p = text + sprintf(text, "{\"k\":{\"same\":0");

        for (k = 1; k < n; k++) {
            p += sprintf(p, ",\"same\":%zu", k % 10);
        }

        p += sprintf(p, "},\"same\":0}");

        check_good((u_char *) text, p - text, VAANI_JSON_OBJECT);
    }

    free(text);
}


static void
test_strings(void **state)
{
    int                  rc;
    u_char               body[128];
    size_t               n, len;
    vaani_str_t          value;
    vaani_json_t         json;
    const u_char        *text;
    vaani_json_error_t   error;
    vaani_test_arena_t   arena;

    (void) state;

    for (n = 0; n < vaani_test_nelems(strings); n++) {

        /* as a value and as a key */

        memcpy(body, "{\"v\":", 5);
        memcpy(body + 5, strings[n].raw.data, strings[n].raw.len);
        len = 5 + strings[n].raw.len;
        body[len++] = ',';
        body[len] = '"';
        body[len + 1] = '_';
        memcpy(body + len + 2, strings[n].raw.data + 1,
               strings[n].raw.len - 1);
        len += 1 + strings[n].raw.len;
        memcpy(body + len, ":0}", 3);
        len += 3;

        vaani_test_arena_init(&arena);
        text = vaani_test_text(&arena, body, len);

        rc = vaani_json_scan(&json, text, len, &strict,
                             &arena.alloc, &error);

        vaani_test_that(rc == VAANI_OK, "%s: rc %d",
                        vaani_test_show(body, len), rc);
        assert_int_equal(json.top.nmembers, 2);

        rc = vaani_json_string(&json.top.members[0], &arena.alloc, &value);

        vaani_test_that(rc == VAANI_OK, "%s: rc %d",
                        vaani_test_show(body, len), rc);

        vaani_test_that(json.top.members[0].decoded == strings[n].value.len,
                        "%s: decoded %zu", vaani_test_show(body, len),
                        json.top.members[0].decoded);

        vaani_test_that(vaani_str_eq(&value, &strings[n].value), "%s: %s",
                        vaani_test_show(body, len),
                        vaani_test_show_str(&value));

        /* without escapes the value is a slice of the text */

        vaani_test_that((value.data == text + 6)
                        == (memchr(strings[n].raw.data, '\\',
                                   strings[n].raw.len) == NULL),
                        "%s: a slice?", vaani_test_show(body, len));

        value = json.top.members[1].key;

        vaani_test_that(value.len == strings[n].value.len + 1
                        && memcmp(value.data + 1, strings[n].value.data,
                                  value.len - 1) == 0,
                        "%s: key %s", vaani_test_show(body, len),
                        vaani_test_show_str(&value));

        check_reference(body, len);

        vaani_test_arena_free(&arena);
    }
}


/*
 * Text of each length before, between and behind escapes: it is copied in
 * steps of sixteen bytes.
 */

static void
test_escapes_between(void **state)
{
    char                *p, text[256];
    size_t               n, m, i, j;
    static const char   *pieces[] = {
        "\\n", "\\u0928", "\\ud83d\\ude4f", "\\udc00", "\\\\\\\"\\/", "\\u0000"
    };
    static const char   *letters[] = { "a", "\xe0\xa4\xa8" };

    (void) state;

    for (i = 0; i < vaani_test_nelems(pieces); i++) {
        for (j = 0; j < 2 * vaani_test_nelems(letters); j++) {
            for (n = 0; n <= 36; n++) {
                p = text + sprintf(text, "{\"a\":\"");

                for (m = 0; m < n; m++) {
                    p += sprintf(p, "%s", letters[j / 2]);
                }

                p += sprintf(p, "%s", pieces[i]);

                for (m = 0; m < n * 7 % 19; m++) {
                    p += sprintf(p, "%s", letters[j % 2]);
                }

                p += sprintf(p, "%s%.*s\"}",
                             pieces[(i + n) % vaani_test_nelems(pieces)],
                             (int) (n % 5), "tail");

                check_reference((u_char *) text, p - text);
            }
        }
    }
}


/*
 * All the escapes of four digits, in strings with something around them.
 */

static void
test_unicode_escapes(void **state)
{
    u_char                 text[64];
    size_t                 len;
    unsigned               code;
    static const unsigned  codes[] = {
        0x0041, 0xd7ff, 0xd800, 0xdbff, 0xdc00, 0xdfff, 0xe000, 0xffff
    };

    (void) state;

    for (code = 0; code <= 0xffff; code++) {
        len = sprintf((char *) text, "{\"a\":\"x\\u%04xy\"}", code);
        check_reference(text, len);
    }

    /* pairs, and what only looks like them, at the borders */

    for (code = 0; code < 8 * 8; code++) {
        len = sprintf((char *) text, "{\"a\":\"\\u%04X\\u%04x\"}",
                      codes[code / 8], codes[code % 8]);
        check_reference(text, len);
    }
}


static void
check_integer(const char *number, size_t len, int shift, uint64_t value,
    const char *message)
{
    int                  rc;
    uint64_t             result;
    const char          *why;
    vaani_str_t          str;
    vaani_test_arena_t   arena;

    vaani_test_arena_init(&arena);

    str.data = vaani_test_text(&arena, number, len);
    str.len = len;

    result = 0;
    why = NULL;

    rc = vaani_json_integer(&str, shift, &result, &why);

    if (message == NULL) {
        vaani_test_that(rc == VAANI_OK && result == value,
                        "%s * 10^%d: rc %d, %llu, not %llu",
                        vaani_test_show_str(&str), shift, rc,
                        (unsigned long long) result,
                        (unsigned long long) value);

    } else {
        vaani_test_that(rc == VAANI_ERROR && strcmp(why, message) == 0,
                        "%s * 10^%d: rc %d, \"%s\"",
                        vaani_test_show_str(&str), shift, rc, why ? why : "");
    }

    vaani_test_arena_free(&arena);
}


static void
test_integers(void **state)
{
    size_t       n, len;
    uint64_t     value;
    const char  *message;
    vaani_str_t  number;

    (void) state;

    for (n = 0; n < vaani_test_nelems(integers); n++) {
        len = strlen(integers[n].number);

        check_integer(integers[n].number, len, integers[n].shift,
                      integers[n].value, integers[n].message);

        /* the reference itself must be correct */

        number.data = (u_char *) integers[n].number;
        number.len = len;

        message = vaani_ref_integer(&number, integers[n].shift, &value);

        vaani_test_that((message == NULL) == (integers[n].message == NULL)
                        && (message || value == integers[n].value),
                        "the reference: %s", integers[n].number);
    }
}


/*
 * Pseudo-random numbers of all forms against the reference.  Many have nines,
 * zeros and halves, where the rounding is decided.
 */

static void
test_integers_random(void **state)
{
    char         text[128];
    size_t       len, n, k, digits;
    uint64_t     seed, value;
    unsigned     kind;
    const char  *message;
    vaani_str_t  number;

    (void) state;

    seed = 20240229;

    for (n = 0; n < 200000; n++) {
        len = 0;
        kind = draw(&seed, 8);

        if (draw(&seed, 50) == 0) {
            text[len++] = '-';
        }

        if (draw(&seed, 3) == 0) {
            text[len++] = '0';

        } else {
            digits = 1 + draw(&seed, kind ? 18 : 40);
            text[len++] = "123456789"[draw(&seed, 9)];

            for (k = 1; k < digits; k++) {
                text[len++] = next_digit(&seed, kind < 3);
            }
        }

        if (draw(&seed, 3)) {
            text[len++] = '.';
            digits = 1 + draw(&seed, kind ? 8 : 40);

            for (k = 0; k < digits; k++) {
                text[len++] = next_digit(&seed, kind & 1);
            }
        }

        if (draw(&seed, 3) == 0) {
            text[len++] = "eE"[draw(&seed, 2)];

            k = draw(&seed, 4);
            if (k < 3) {
                text[len++] = "+--"[k];
            }

            len += sprintf(text + len, "%u", draw(&seed, kind ? 20 : 330));
        }

        number.data = (u_char *) text;
        number.len = len;

        for (k = 0; k <= 3; k += 3) {
            message = vaani_ref_integer(&number, k, &value);
            check_integer(text, len, k, value, message);
        }
    }
}


static unsigned
draw(uint64_t *seed, unsigned limit)
{
    *seed = *seed * 6364136223846793005ULL + 1442695040888963407ULL;

    return (*seed >> 33) % limit;
}


static char
next_digit(uint64_t *seed, unsigned borders_only)
{
    return borders_only ? "0459"[draw(seed, 4)] : "0123456789"[draw(seed, 10)];
}


static void
test_integer_long(void **state)
{
    char    *text;
    size_t   n;

    (void) state;

    /* megabytes of digits, and an exponent that compensates for them */

    n = 3000000;
    text = vaani_test_malloc(n + 32);

    memset(text, '0', n);
    text[1] = '.';
    n += sprintf(text + n, "425e3000000");
    check_integer(text, n, 0, 43, NULL);
    check_integer(text, n, 3, 42500, NULL);

    n = 3000000;
    memset(text, '0', n);
    text[0] = '7';
    n += sprintf(text + n, "e-2999999");
    check_integer(text, n, 0, 7, NULL);
    check_integer(text, n - 1, 0, 0, INFINITE);

    n = 3000000;
    memset(text, '9', n);
    check_integer(text, n, 0, 0, INFINITE);
    check_integer(text, 309, 0, MAX, NULL);
    check_integer(text, 310, 0, 0, INFINITE);

    free(text);
}


static void
test_escapes(void **state)
{
    u_char              *dst, *last, text[1];
    size_t               n, len;
    vaani_str_t          src;
    vaani_test_arena_t   arena;

    (void) state;

    /* an empty string is empty, at any address */

    src.data = NULL;
    src.len = 0;

    dst = text;
    assert_ptr_equal(vaani_json_escape(dst, &src), dst);

    for (n = 0; n < vaani_test_nelems(escapes); n++) {
        vaani_test_arena_init(&arena);

        src.len = escapes[n].raw.len;
        src.data = vaani_test_text(&arena, escapes[n].raw.data, src.len);

        len = vaani_json_escaped_len(&src);
        dst = vaani_test_own(&arena, vaani_test_malloc(len));

        last = vaani_json_escape(dst, &src);

        vaani_test_that((size_t) (last - dst) == escapes[n].value.len
                        && memcmp(dst, escapes[n].value.data, last - dst) == 0,
                        "%s: %s", vaani_test_show_str(&src),
                        vaani_test_show(dst, last - dst));

        vaani_test_arena_free(&arena);
    }
}


/*
 * An escaped text is a string with the same value if it was UTF-8, and has no
 * byte that a terminal or a log might interpret.
 */

static void
test_escape_round_trip(void **state)
{
    u_char  data[3];
    size_t  i, j, k;

    (void) state;

    for (i = 0; i < 256; i++) {
        for (j = 0; j < sizeof(borders); j++) {
            for (k = 0; k < sizeof(borders); k += 2) {
                data[0] = i;
                data[1] = borders[j];
                data[2] = borders[k];

                check_escape(data, 1 + (j + k) % 3);
            }
        }
    }
}


static void
check_escape(const u_char *data, size_t len)
{
    u_char              *dst, *p, *last;
    vaani_str_t          src, string;
    vaani_ref_t          ref;
    vaani_test_arena_t   arena;

    vaani_test_arena_init(&arena);

    src.len = len;
    src.data = vaani_test_text(&arena, data, len);

    len = vaani_json_escaped_len(&src);
    dst = vaani_test_own(&arena, vaani_test_malloc(len + 2));

    dst[0] = '"';
    last = vaani_json_escape(dst + 1, &src);
    assert_true(last <= dst + 1 + len);
    *last++ = '"';

    for (p = dst; p < last; p++) {
        assert_true(*p >= 0x20 && *p != 0x7f);
    }

    string.len = 0;
    string.data = NULL;

    memset(&ref, 0, sizeof(vaani_ref_t));

    ref.decoded = vaani_test_own(&arena, vaani_test_malloc(last - dst));
    ref.last = ref.decoded;
    ref.end = last;

    vaani_test_that(vaani_ref_string(&ref, dst, &string) == last, "%s: %s",
                    vaani_test_show_str(&src),
                    vaani_test_show(dst, last - dst));

    vaani_test_that(vaani_str_eq(&string, &src) || !is_utf8(&src), "%s: %s",
                    vaani_test_show_str(&src), vaani_test_show_str(&string));

    vaani_test_arena_free(&arena);
}


static int
is_utf8(const vaani_str_t *str)
{
    uint32_t       cp;
    vaani_ref_t    ref;
    const u_char  *p;

    ref.end = str->data + str->len;

    for (p = str->data; p && p < ref.end; /* void */ ) {
        p = vaani_ref_char(&ref, p, &cp);
    }

    return p != NULL;
}


/*
 * Scans and decodes everything.
 */

static int
scan_all(vaani_test_arena_t *arena, const vaani_str_t *text)
{
    int                 rc;
    size_t              n;
    vaani_str_t         value;
    vaani_json_t        json;
    vaani_json_error_t  error;

    rc = vaani_json_scan(&json, text->data, text->len, &strict,
                         &arena->alloc, &error);

    for (n = 0; rc == VAANI_OK && n < json.top.nmembers; n++) {
        if (json.top.members[n].type == VAANI_JSON_STRING) {
            rc = vaani_json_string(&json.top.members[n], &arena->alloc,
                                   &value);
        }
    }

    for (n = 0; rc == VAANI_OK && n < json.inner.nmembers; n++) {
        if (json.inner.members[n].type == VAANI_JSON_STRING) {
            rc = vaani_json_string(&json.inner.members[n], &arena->alloc,
                                   &value);
        }
    }

    return rc;
}


/*
 * Memory runs out at each of the allocations, permanently or just once.  That
 * must be reported, must be the only error, and must not need memory itself.
 */

static void
test_no_memory(void **state)
{
    int                  rc;
    char                *text, *p;
    size_t               i, n, all, len;
    unsigned             once;
    vaani_str_t          bodies[8];
    vaani_test_arena_t   arena, texts;

    static const vaani_str_t  plain = vaani_string("{\"a\":1}");
    static const vaani_str_t  escaped =
        vaani_string("{\"\\n\":\"\\t\",\"k\":\"\\r\",\"l\":\"\\u0000\"}");

    (void) state;

    vaani_test_arena_init(&texts);
    vaani_test_arena_init(&arena);

    text = vaani_test_malloc(32 * 300);

    bodies[0] = plain;
    bodies[1] = escaped;

    /* enough to grow the members once and more, to sort them, to decode */

    for (i = 2; i < 5; i++) {
        len = put_keys(text, (i == 2) ? 17 : (i == 3) ? 33 : 300);
        bodies[i].data = vaani_test_text(&texts, text, len);
        bodies[i].len = len;
    }

    p = text;

    for (n = 0; n < 40; n++) {
        p += sprintf(p, "%c\"\\u0061%zu\":\"\\u0000\"", n ? ',' : '{', n);
    }

    *p++ = '}';

    bodies[5].data = vaani_test_text(&texts, text, p - text);
    bodies[5].len = p - text;

    /* the members of "data", and surrogates that stand alone */

    p = text + sprintf(text, "{\"data\":");
    p += put_keys(p, 40);
    p += sprintf(p, "}");

    bodies[6].data = vaani_test_text(&texts, text, p - text);
    bodies[6].len = p - text;

    p = text + sprintf(text, "{\"\\ud800\":\"\\udfff\","
                             "\"data\":{\"\\udfff\":\"\\ud800\"}}");

    bodies[7].data = vaani_test_text(&texts, text, p - text);
    bodies[7].len = p - text;

    for (i = 0; i < vaani_test_nelems(bodies); i++) {
        assert_int_equal(scan_all(&arena, &bodies[i]), VAANI_OK);

        all = arena.nallocs;
        vaani_test_arena_free(&arena);

        assert_int_equal(all == 0, i == 0);

        for (once = 0; once < 2; once++) {
            for (n = 1; n <= all + 1; n++) {
                arena.fail_at = n;
                arena.fail_once = once;

                rc = scan_all(&arena, &bodies[i]);

                vaani_test_that(rc == (n <= all ? VAANI_NOMEM : VAANI_OK),
                                "body %zu, allocation %zu of %zu: rc %d", i, n,
                                all, rc);

                vaani_test_arena_free(&arena);
            }
        }
    }

    /* an error needs no memory */

    for (n = 0; n < vaani_test_nelems(bad); n++) {

        if (strcmp(bad[n].message, DUPLICATE) == 0) {
            continue;
        }

        arena.fail_at = 1;

        rc = scan_all(&arena, &bad[n].text);

        vaani_test_that(rc == VAANI_ERROR && arena.nallocs == 0,
                        "%s: rc %d, %zu allocations",
                        vaani_test_show_str(&bad[n].text), rc, arena.nallocs);
    }

    free(text);
    vaani_test_arena_free(&texts);
}


static size_t
put_utf8(char *dst, unsigned cp)
{
    if (cp < 0x80) {
        dst[0] = cp;
        return 1;
    }

    if (cp < 0x800) {
        dst[0] = 0xc0 | cp >> 6;
        dst[1] = 0x80 | (cp & 0x3f);
        return 2;
    }

    if (cp < 0x10000) {
        dst[0] = 0xe0 | cp >> 12;
        dst[1] = 0x80 | (cp >> 6 & 0x3f);
        dst[2] = 0x80 | (cp & 0x3f);
        return 3;
    }

    dst[0] = 0xf0 | cp >> 18;
    dst[1] = 0x80 | (cp >> 12 & 0x3f);
    dst[2] = 0x80 | (cp >> 6 & 0x3f);
    dst[3] = 0x80 | (cp & 0x3f);

    return 4;
}


int
main(void)
{
    int  failed;

    const struct CMUnitTest  texts[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_nested),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_trailing_byte),
        cmocka_unit_test(test_replaced_byte),
        cmocka_unit_test(test_inserted_and_removed_byte),
        cmocka_unit_test(test_token_sequences),
        cmocka_unit_test(test_number_sequences),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_depth_kinds),
        cmocka_unit_test(test_many_brackets)
    };

    const struct CMUnitTest  characters[] = {
        cmocka_unit_test(test_code_points),
        cmocka_unit_test(test_utf8_ill_formed),
        cmocka_unit_test(test_utf8_sequences),
        cmocka_unit_test(test_utf8_truncated),
        cmocka_unit_test(test_control_characters),
        cmocka_unit_test(test_plain_one),
        cmocka_unit_test(test_plain_two),
        cmocka_unit_test(test_plain_lengths)
    };

    const struct CMUnitTest  members[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_members_of_others),
        cmocka_unit_test(test_members_many),
        cmocka_unit_test(test_members_too_many),
        cmocka_unit_test(test_members_of_data),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_duplicates_first),
        cmocka_unit_test(test_duplicates_none),
        cmocka_unit_test(test_duplicates_of_data),
        cmocka_unit_test(test_elements),
        cmocka_unit_test(test_line_breaks),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_escapes_between),
        cmocka_unit_test(test_unicode_escapes)
    };

    const struct CMUnitTest  numbers[] = {
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_integers_random),
        cmocka_unit_test(test_integer_long)
    };

    const struct CMUnitTest  output[] = {
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_escape_round_trip)
    };

    const struct CMUnitTest  memory[] = {
        cmocka_unit_test(test_no_memory)
    };

    failed = cmocka_run_group_tests(texts, NULL, NULL);
    failed += cmocka_run_group_tests(characters, NULL, NULL);
    failed += cmocka_run_group_tests(members, NULL, NULL);
    failed += cmocka_run_group_tests(numbers, NULL, NULL);
    failed += cmocka_run_group_tests(output, NULL, NULL);
    failed += cmocka_run_group_tests(memory, NULL, NULL);

    return failed != 0;
}
