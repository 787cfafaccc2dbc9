#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ELLIPSIS "\xe2\x80\xa6" /* U+2026 in UTF-8 */

/* Makes room for the ellipsis at the end of a full text, without cutting a UTF-8 sequence in two.
 */
static void mark_cut(char *text, size_t size)
{
    char *end = text + size - sizeof(ELLIPSIS);
    while (end > text && (*end & 0xc0) == 0x80)
        end--;
    memcpy(end, ELLIPSIS, sizeof(ELLIPSIS));
}

int error_set_v(struct error *error, int code, const char *format, va_list args)
{
    if (error == NULL)
        return code;
    char text[sizeof(error->text)]; /* the arguments may point into error->text */
    int length = vsnprintf(text, sizeof(text), format, args);
    if (length >= (int)sizeof(text))
        mark_cut(text, sizeof(text));
    error->code = code;
    memcpy(error->text, text, strlen(text) + 1);
    return code;
}

int error_set(struct error *error, int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    error_set_v(error, code, format, args);
    va_end(args);
    return code;
}

int error_wrap(struct error *error, const char *format, ...)
{
    if (error == NULL)
        return -EINVAL;
    struct error prefix;
    va_list args;
    va_start(args, format);
    error_set_v(&prefix, error->code, format, args);
    va_end(args);
    return error_set(error, error->code, "%s: %s", prefix.text, error->text);
}
