/* The migrations in the binary: generated from migrations/NNNN_name.sql by migrations/embed.sh. */
#pragma once

struct migration {
    int number;
    const char *name;
    const char *sql;
};

/* In ascending order; a zero element ends the list. */
extern const struct migration migrations[];
