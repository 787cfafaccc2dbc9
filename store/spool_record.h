/* The end of an attempt as a record of bytes, for the spool's file.
 *
 * A record is a header (a magic number, the size of what follows, its CRC32C, and a CRC32C of the
 * header itself) and a body. So a record that was cut short is told from one that was changed: the
 * size can be believed before the body is there. Numbers are in the order of this machine, which is
 * the one that reads them.
 */
#pragma once

#include <stddef.h>

#include "base/buffer.h"
#include "store/store.h"

/* Before this many bytes there is nothing to be known of a record. */
#define SPOOL_HEADER_BYTES 16

size_t spool_record_size(const struct store_finish *finish);
/* Appends the record without its checksums. */
void spool_record_add(struct buffer *out, const struct store_finish *finish);
/* Fills in the checksums of the record at `record`, which takes a while for a large one; returns
 * its size. */
size_t spool_record_seal(char *record);

enum spool_reading {
    SPOOL_WHOLE,
    SPOOL_CUT,     /* `*record_size` bytes are needed, which is more than there are */
    SPOOL_CORRUPT, /* this is no record */
};

/* Reads the record at the beginning of `bytes`. The finish's reason and result point into it. */
enum spool_reading spool_record_read(const char *bytes, size_t size, struct store_finish *finish,
                                     size_t *record_size);
