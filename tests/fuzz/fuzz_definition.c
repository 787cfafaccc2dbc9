/* Fuzzes scheduler/definition_load.h: a file is either loaded or has an error with a place in it,
 * and what is loaded is a graph whose arrows point forwards. */
#include "scheduler/definition_load.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void check_definition(const struct definition *definition)
{
    for (int i = 0; i < definition->task_count; i++) {
        const struct definition_task *task = &definition->tasks[i];
        for (int k = 0; k < task->previous_count; k++)
            if (task->previous[k] < 0 || task->previous[k] >= i)
                abort();
        if (task->action && json_check(task->action, strlen(task->action), NULL) < 0)
            abort();
    }
    for (int i = 0; i < definition->document_count; i++) {
        const char *value = definition->document[i].value;
        if (json_check(value, strlen(value), NULL) < 0)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    struct definition_file file = {.name = mem_text("w/a.yml"), .size = size};
    file.text = mem_text_n((const char *)data, size);
    struct definition_set *set = definitions_load_files(&file, 1, &definition_limits_default, NULL);
    if ((set->error_count == 0) != (set->files[0].state == DEFINITION_FILE_LOADED))
        abort();
    for (int i = 0; i < set->definition_count; i++)
        check_definition(set->definitions[i]);
    definition_set_free(set);
    free(file.text);
    free(file.name);
    return 0;
}
