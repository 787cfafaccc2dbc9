#include "scheduler/report.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "scheduler/yaml_tree.h"

int report_error_count(const struct report *report)
{
    return report->errors.count + report->errors_left_out;
}

static void list_add(struct report_list *list, struct definition_problem problem)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 8;
        list->items = mem_resize(list->items, (size_t)list->capacity, sizeof *list->items);
    }
    list->items[list->count++] = problem;
}

static void add_v(struct report *report, struct report_list *list, int line, int column,
                  const char *format, va_list args) __attribute__((format(printf, 5, 0)));

static void add_v(struct report *report, struct report_list *list, int line, int column,
                  const char *format, va_list args)
{
    if (list->count >= REPORT_MAX_ERRORS) {
        report->errors_left_out += list == &report->errors;
        return;
    }
    struct error error = {0};
    error_set_v(&error, 1, format, args);
    list_add(list, (struct definition_problem){
                       .file = report->file,
                       .line = line,
                       .column = column,
                       .text = arena_text(report->arena, error.text),
                   });
}

void report_error(struct report *report, const struct yaml_node *at, const char *format, ...)
{
    if (!report)
        return;
    va_list args;
    va_start(args, format);
    add_v(report, &report->errors, at->line, at->column, format, args);
    va_end(args);
}

void report_error_at(struct report *report, int line, int column, const char *format, ...)
{
    if (!report)
        return;
    va_list args;
    va_start(args, format);
    add_v(report, &report->errors, line, column, format, args);
    va_end(args);
}

void report_warning(struct report *report, const struct yaml_node *at, const char *format, ...)
{
    if (!report)
        return;
    va_list args;
    va_start(args, format);
    add_v(report, &report->warnings, at->line, at->column, format, args);
    va_end(args);
}

const char *report_hint(struct report *report, const char *word, const char *const *candidates,
                        size_t count)
{
    if (!report || report->hints++ >= REPORT_MAX_HINTS)
        return "";
    if (count > REPORT_MAX_CANDIDATES)
        count = REPORT_MAX_CANDIDATES;
    const char *nearest = text_nearest(word, candidates, count);
    return nearest ? arena_format(report->arena, " (did you mean '%s'?)", nearest) : "";
}

static int compare_problems(const void *a, const void *b)
{
    const struct definition_problem *left = a;
    const struct definition_problem *right = b;
    if (left->line != right->line)
        return left->line < right->line ? -1 : 1;
    if (left->column != right->column)
        return left->column < right->column ? -1 : 1;
    return strcmp(left->text, right->text);
}

static void list_finish(struct report_list *list)
{
    if (list->count == 0)
        return;
    qsort(list->items, (size_t)list->count, sizeof *list->items, compare_problems);
    int kept = 1;
    for (int i = 1; i < list->count; i++)
        if (compare_problems(&list->items[i], &list->items[kept - 1]) != 0)
            list->items[kept++] = list->items[i];
    list->count = kept;
}

void report_finish(struct report *report)
{
    list_finish(&report->errors);
    list_finish(&report->warnings);
    if (report->errors_left_out == 0)
        return;
    list_add(&report->errors,
             (struct definition_problem){
                 .file = report->file,
                 .text = arena_format(report->arena, "%d more errors", report->errors_left_out),
             });
    report->errors_left_out = 0;
}

void report_done(struct report *report)
{
    free(report->errors.items);
    free(report->warnings.items);
}
