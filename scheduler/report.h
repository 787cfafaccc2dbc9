/* What is wrong with one file: errors and warnings with their places, gathered while the file is
 * read.
 *
 * The loader goes on after an error, so that a person sees all of them at once. Past
 * REPORT_MAX_ERRORS they are only counted: nobody reads more, and a hostile file must not make a
 * gigabyte of them.
 */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/memory.h"
#include "scheduler/definition_load.h"

#define REPORT_MAX_ERRORS 100
/* Near names are sought this often in a file, among so many candidates: the search compares with
 * each of them. */
#define REPORT_MAX_HINTS 20
#define REPORT_MAX_CANDIDATES 5000

struct yaml_node;

struct report_list {
    struct definition_problem *items;
    int count;
    int capacity;
};

struct report {
    struct arena *arena; /* of the texts */
    const char *file;
    struct report_list errors;
    struct report_list warnings;
    int errors_left_out;
    int hints;
};

/* Errors so far, those left out included. */
int report_error_count(const struct report *report);
/* `at` is the place; lines and columns count from 1. A NULL report takes no notice: for reading
 * again what has been checked before. */
void report_error(struct report *report, const struct yaml_node *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void report_error_at(struct report *report, int line, int column, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void report_warning(struct report *report, const struct yaml_node *at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ` (did you mean 'LOAD'?)`, or the empty text when no candidate is near or a bound is reached.
 * Lives in the report's arena. */
const char *report_hint(struct report *report, const char *word, const char *const *candidates,
                        size_t count);

/* Sorts by place, drops repetitions (a node is read once for each alias) and says how many errors
 * were left out. */
void report_finish(struct report *report);
void report_done(struct report *report);
