/* `directord --check`, the part of scheduler/definition_load.h that prints. */
#include <stdio.h>

#include "scheduler/definition_load.h"

static void print_problems(const struct definition_problem *problems, int count, const char *prefix)
{
    char text[DEFINITION_PROBLEM_TEXT_SIZE];
    for (int i = 0; i < count; i++) {
        definition_problem_format(&problems[i], text);
        fprintf(stderr, "%s%s\n", prefix, text);
    }
}

static void print_definition(const struct definition *definition)
{
    printf("%s  %d task%s", definition->fullname, definition->ordinary_count,
           definition->ordinary_count == 1 ? "" : "s");
    for (int i = 0; i < definition->schedule_count; i++)
        printf("%s%s", i ? ", " : "  ", definition->schedules[i].identity);
    printf("  (%s:%d)\n", definition->file, definition->line);
}

int definitions_check(const char *dir, const struct definition_limits *limits)
{
    struct error error = {0};
    struct definition_set *set = definitions_load(dir, limits, NULL, &error);
    if (!set) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    print_problems(set->errors, set->error_count, "");
    print_problems(set->warnings, set->warning_count, "warning: ");
    for (int i = 0; i < set->definition_count; i++)
        print_definition(set->definitions[i]);
    int status = set->error_count > 0 ? 1 : 0;
    definition_set_free(set);
    return status;
}
