#include "executor/launch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static size_t count(char *const *list)
{
    size_t n = 0;
    while (list[n])
        n++;
    return n;
}

static char *text_or_empty(struct arena *arena, const char *text)
{
    return arena_text(arena, text ? text : "");
}

static char **wrap_arguments(const struct launch *launch, struct arena *arena,
                             const struct spawn_request *request)
{
    size_t n = count(request->argv);
    char **argv = arena_new(arena, LAUNCH_PROGRAM + n + 1, sizeof *argv);
    argv[0] = arena_text(arena, launch->launcher);
    argv[LAUNCH_VERSION] = arena_text(arena, DIRECTORD_VERSION);
    argv[LAUNCH_CGROUP] = text_or_empty(arena, launch->cgroup);
    argv[LAUNCH_USER] = text_or_empty(arena, launch->user);
    argv[LAUNCH_GROUP] = text_or_empty(arena, launch->group);
    argv[LAUNCH_CWD] = arena_text(arena, launch->cwd);
    memcpy(argv + LAUNCH_PROGRAM, request->argv, n * sizeof *argv);
    return argv;
}

static char **wrap_environment(struct arena *arena, char *const *envp)
{
    size_t n = count(envp);
    char **marked = arena_new(arena, n + 1, sizeof *marked);
    for (size_t i = 0; i < n; i++) {
        bool ours = strncmp(envp[i], LAUNCH_ENV_OURS, strlen(LAUNCH_ENV_OURS)) == 0;
        marked[i] = ours ? envp[i] : arena_format(arena, "%c%s", LAUNCH_ENV_MARK, envp[i]);
    }
    return marked;
}

void launch_wrap(const struct launch *launch, struct arena *arena, struct spawn_request *request)
{
    request->argv = wrap_arguments(launch, arena, request);
    request->envp = wrap_environment(arena, request->envp);
    request->file = launch->launcher;
    request->report_pipe = true;
}

int launch_read_report(const char *report, struct error *error)
{
    char *text;
    long number = strtol(report, &text, 10);
    if (number <= 0 || *text != ' ')
        return error_set(error, -EPROTO, "the launcher reports '%s'", report);
    return error_set(error, (int)-number, "%s", text + 1);
}
