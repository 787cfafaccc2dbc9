/* The command line of directord. */
#pragma once

#include <stdio.h>

#include "base/error.h"

enum options_action {
    OPTIONS_RUN,
    OPTIONS_CHECK,
    OPTIONS_NEXT,
    OPTIONS_HELP,
    OPTIONS_VERSION,
};

/* Text points into argv. */
struct options {
    enum options_action action;
    const char *config;    /* --config FILE, or NULL */
    const char *check_dir; /* --check DIR, or NULL: the setting's */
    char **next_arguments; /* --next ARGUMENTS…, for next_main; NULL at the end */
    int next_count;
};

/* -EINVAL and one line for what cannot be meant. */
int options_parse(int argc, char *argv[], struct options *options, struct error *error);
void options_help(FILE *out);
