/* One setting: a row of the table in settings.c, and how its text becomes a field of `struct
 * settings`. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/memory.h"

enum setting_type {
    SETTING_TEXT,     /* const char * */
    SETTING_LIST,     /* struct text_list; written with commas */
    SETTING_BOOL,     /* bool */
    SETTING_CHOICE,   /* an enum, one of `choices` */
    SETTING_INT,      /* int */
    SETTING_MODE,     /* int, permissions of a file; written in octal */
    SETTING_DURATION, /* int64_t, milliseconds */
    SETTING_BYTES,    /* size_t; `64KiB`, `1MiB` */
};

struct setting_choice {
    const char *word; /* NULL ends the array */
    int value;
};

struct setting {
    const char *name;
    enum setting_type type;
    size_t offset; /* of the field in the struct that holds the values */
    int64_t min, max;
    const struct setting_choice *choices;
    const char *initial; /* as a user would write it; an empty number is 0, for the owner to find */
    bool reloadable;     /* never text or a list, whose memory ends with the struct */
    const char *help;    /* whole sentences */
};

/* Sets the row's field in the struct at `values`; text is copied into `memory`. Empty text is the
 * row's default. The error quotes the value and says what was expected. -EINVAL. */
int setting_set(const struct setting *row, const char *text, void *values, struct arena *memory,
                struct error *error);
bool setting_equal(const struct setting *row, const void *values, const void *others);
/* Copies the field of a reloadable setting. */
void setting_copy(const struct setting *row, void *to, const void *from);
/* What may be written, as words: `1 to 10000`, `debug, info, warning or error`; nothing for free
 * text. */
void setting_describe(const struct setting *row, struct buffer *out);
