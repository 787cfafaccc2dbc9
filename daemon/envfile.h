/* Files of NAME=value lines, in the syntax of systemd's EnvironmentFile= (systemd.exec(5)).
 *
 * Empty lines and lines that begin with `#` or `;` are passed over; `export ` may stand before a
 * name, as in the files of dotenv. A value may be quoted, wholly or in pieces: in '…' everything
 * stands for itself; in "…" a backslash protects `"`, `\`, `` ` `` and `$`; outside quotes it
 * protects any character. A backslash at the end of a line joins the next one, except in '…'.
 * Nothing is expanded. What systemd would take in silence and mean otherwise than its writer is an
 * error here: a line without `=`, and ` #` behind an unquoted value.
 */
#pragma once

#include <stddef.h>

#include "base/error.h"

/* Takes one assignment; an error that it returns ends the parsing and gets the place in front. */
typedef int (*envfile_entry_cb)(void *context, const char *name, const char *value,
                                struct error *error);

/* `file` is for messages: `FILE:LINE: …`. -EINVAL for bad syntax. */
int envfile_parse(const char *file, const char *text, size_t size, envfile_entry_cb each,
                  void *context, struct error *error);
/* The same with the file's content (at most 1 MiB); what open and read give where they fail. */
int envfile_read(const char *file, envfile_entry_cb each, void *context, struct error *error);
