/* The attempt that is a process.
 *
 * All goes well: `start` has a thread of libuv's pool spawn the program, which reads what `prepare`
 * left and makes the control group, and touches nothing else of the attempt; its output is read as
 * it comes; the pidfd says that it has exited, with which its group and whatever else is left of it
 * are killed; a sweep of the children finds nothing of it any more; what the pipes still hold is
 * read; the leader is reaped and the end reported. End of file on a pipe means nothing, since
 * anyone may hold its other end.
 *
 *     STARTING ──spawned──▶ RUNNING
 *     RUNNING ──stop, time-out──▶ TERMINATING ──grace over──▶ KILLING ──kill_wait over──▶ ABANDONED
 *        └────────────exit, kill─────────────────────────────────▲
 *
 * STARTING is also who is queued. Once a thread is at the start, a stop or kill waits for the
 * outcome. In TERMINATING everything has had SIGTERM, and the exit of the leader alone changes
 * nothing: the program that a shell was waiting for keeps its grace. In KILLING everything has
 * SIGKILL. In both, the end comes as soon as the leader has exited and no other process of the
 * family lives. ABANDONED is reported with left_behind, and goes on looking until the rest is gone
 * or the executor closes. Each state has one timer.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash_point.h"
#include "base/duration.h"
#include "base/memory.h"
#include "base/size.h"
#include "executor/attempt.h"
#include "executor/launch.h"
#include "executor/program.h"
#include "executor/result.h"
#include "executor/spawn.h"

/* Most bytes moved on one pipe before others have their turn. */
#define STREAM_TURN_BYTES (256 * 1024)
/* A pipe holds 64 KiB, and 1 MiB where its user enlarges it (/proc/sys/fs/pipe-max-size). More than
 * that can only come from a process that has escaped and writes on. */
#define STREAM_DRAIN_BYTES (1024 * 1024)
/* What the traceback is cut from. */
#define STDERR_TAIL_BYTES 8192
/* A launcher's report is one error. */
#define REPORT_BYTES sizeof(struct error)
/* Under memory pressure the kernel takes tasks before the daemon and its database. */
#define OOM_SCORE "500"

enum phase { STARTING, RUNNING, TERMINATING, KILLING, ABANDONED };

struct stream {
    uv_poll_t poll;
    int fd; /* -1 when closed */
};

struct process {
    struct attempt attempt;
    enum phase phase;

    /* Until the start. */
    struct arena arena;
    char **argv;
    char **envp;
    const char *cwd;
    const char *user;
    const char *group;

    struct cgroup_limits limits;
    char *cgroup;         /* the directory of its control group, or NULL */
    struct buffer report; /* the launcher's */

    char *input;
    size_t input_size;
    size_t input_written;
    enum result_source source;
    size_t max_result_bytes;
    struct buffer result; /* at most one byte more than the maximum */
    struct log_ring log;
    struct log_ring stderr_tail;
    attempt_start_cb on_start;
    attempt_output_cb on_output;
    int64_t timeout_ms;
    int64_t grace_ms;
    struct start *start; /* in STARTING, once it has begun */
    bool kill_when_runs; /* in STARTING, not only a stop but a kill was asked for */

    struct family family;
    char *name; /* of the family and the group, or NULL */
    int64_t started_us;
    int exit_status;
    int signal;

    struct stream streams[SPAWN_FDS];
    struct stream exit; /* the pidfd */
    uv_timer_t timer;   /* of the phase */
    int open_handles;
};

/* A spawn under way, and what came of it. */
struct start {
    uv_work_t work;
    struct process *process;
    int64_t at_us; /* wall clock */
    struct spawned spawned;
    int code;
    struct error error;
};

static void process_stop(struct attempt *attempt, enum stop_reason why);
static void process_kill(struct attempt *attempt, enum stop_reason why);
static void on_exit_seen(uv_poll_t *poll, int status, int events);
static void on_phase_timer(uv_timer_t *timer);

/* --- prepare -------------------------------------------------------------------------------- */

static char **copy_list(struct arena *arena, const char *const *list)
{
    size_t n = 0;
    while (list && list[n])
        n++;
    char **copy = arena_new(arena, n + 1, sizeof *copy);
    for (size_t i = 0; i < n; i++)
        copy[i] = arena_text(arena, list[i]);
    return copy;
}

/* What follows `mark` in the environment, or NULL. */
static const char *find_value(char *const *envp, const char *mark)
{
    for (; *envp; envp++)
        if (strncmp(*envp, mark, strlen(mark)) == 0)
            return *envp + strlen(mark);
    return NULL;
}

static char *make_name(char *const *envp)
{
    const char *task = find_value(envp, FAMILY_TASK_MARK);
    const char *number = find_value(envp, FAMILY_ATTEMPT_MARK);
    return task && number ? mem_format("%s.%s", task, number) : NULL;
}

static void process_prepare(struct attempt *attempt, const struct attempt_spec *spec)
{
    struct process *process = (struct process *)attempt;
    size_t log_limit = spec->log_limit > 0 ? spec->log_limit : ATTEMPT_LOG_LIMIT;
    process->argv = copy_list(&process->arena, spec->argv);
    process->envp = copy_list(&process->arena, spec->envp);
    process->cwd = arena_text(&process->arena, spec->cwd ? spec->cwd : "/");
    process->user = spec->user ? arena_text(&process->arena, spec->user) : NULL;
    process->group = spec->group ? arena_text(&process->arena, spec->group) : NULL;
    process->limits = spec->limits;
    process->input = spec->input;
    process->input_size = spec->input_size;
    process->source = spec->result;
    process->max_result_bytes =
        spec->max_result_bytes > 0 ? spec->max_result_bytes : ATTEMPT_MAX_RESULT_BYTES;
    process->on_start = spec->on_start;
    process->on_output = spec->on_output;
    process->timeout_ms = spec->timeout_ms;
    process->grace_ms = spec->grace_ms;
    process->exit_status = -1;
    process->name = make_name(process->envp);
    log_ring_init(&process->log, log_limit / 4, log_limit - log_limit / 4);
    log_ring_init(&process->stderr_tail, 0, STDERR_TAIL_BYTES);
}

static void process_done(struct attempt *attempt)
{
    struct process *process = (struct process *)attempt;
    arena_done(&process->arena);
    free(process->input);
    free(process->name);
    free(process->cgroup);
    buffer_done(&process->report);
    buffer_done(&process->result);
    log_ring_done(&process->log);
    log_ring_done(&process->stderr_tail);
}

/* --- the pipes ------------------------------------------------------------------------------ */

/* The timer's handle is closed last, with the end. */
static void on_handle_closed(uv_handle_t *handle)
{
    struct process *process = handle->data;
    if (--process->open_handles == 0)
        attempt_release(&process->attempt);
}

/* The handle goes before its descriptor, whose number may soon be that of another handle. */
static void stream_close(struct stream *stream)
{
    if (stream->fd < 0)
        return;
    uv_close((uv_handle_t *)&stream->poll, on_handle_closed);
    close(stream->fd);
    stream->fd = -1;
}

static void take_up_to(struct buffer *buffer, size_t limit, const char *bytes, size_t n)
{
    size_t room = limit - buffer->size;
    buffer_add(buffer, bytes, n < room ? n : room);
}

static void take_output(struct process *process, enum output_stream stream, const char *bytes,
                        size_t n)
{
    int64_t now_us = clock_wall_us();
    log_ring_add(&process->log, stream, now_us, bytes, n);
    if (stream == OUTPUT_STDERR)
        log_ring_add(&process->stderr_tail, stream, now_us, bytes, n);
    if (process->on_output && !process->attempt.reported)
        process->on_output(&process->attempt, stream, bytes, n, now_us, process->attempt.context);
}

static void take(struct process *process, int from, const char *bytes, size_t n)
{
    if (from == SPAWN_RESULT || (from == STDOUT_FILENO && process->source == RESULT_STDOUT))
        take_up_to(&process->result, process->max_result_bytes + 1, bytes, n);
    if (from == STDOUT_FILENO)
        take_output(process, OUTPUT_STDOUT, bytes, n);
    if (from == STDERR_FILENO)
        take_output(process, OUTPUT_STDERR, bytes, n);
    if (from == SPAWN_REPORT)
        take_up_to(&process->report, REPORT_BYTES, bytes, n);
}

static void tell_started(struct process *process)
{
    if (process->on_start && !process->attempt.reported)
        process->on_start(process->attempt.context);
}

/* The launcher's report ends empty with the execve that it was for. */
static void on_stream_end(struct process *process, struct stream *stream)
{
    stream_close(stream);
    if (stream == &process->streams[SPAWN_REPORT] && process->report.size == 0)
        tell_started(process);
}

/* Reads what is there, up to a limit that no one is kept waiting for. */
static void stream_read(struct process *process, struct stream *stream, size_t limit)
{
    char *scratch = process->attempt.executor->scratch;
    int from = (int)(stream - process->streams);
    for (size_t total = 0; total < limit;) {
        ssize_t n = read(stream->fd, scratch, EXECUTOR_SCRATCH_BYTES);
        if (n > 0) {
            take(process, from, scratch, (size_t)n);
            total += (size_t)n;
        } else if (n < 0 && errno == EINTR) {
            continue;
        } else {
            if (n == 0 || errno != EAGAIN)
                on_stream_end(process, stream);
            return;
        }
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct process *process = poll->data;
    stream_read(process, (struct stream *)poll, STREAM_TURN_BYTES);
}

/* A program that does not want its input closes it, or exits: that is its own business. */
static void write_input(struct process *process)
{
    struct stream *stream = &process->streams[STDIN_FILENO];
    size_t limit = process->input_written + STREAM_TURN_BYTES;
    while (process->input_written < process->input_size) {
        if (process->input_written >= limit)
            return;
        ssize_t n = write(stream->fd, process->input + process->input_written,
                          process->input_size - process->input_written);
        if (n < 0 && errno == EAGAIN)
            return;
        if (n < 0 && errno != EINTR)
            break;
        if (n > 0)
            process->input_written += (size_t)n;
    }
    stream_close(stream);
    free(process->input);
    process->input = NULL;
}

/* A reader that has gone comes as a status. */
static void on_writable(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    write_input(poll->data);
}

/* --- start ---------------------------------------------------------------------------------- */

/* libuv aborts itself when the kernel refuses a descriptor later; here it would be for lack of
 * kernel memory. */
static void must(int r)
{
    if (r < 0)
        abort();
}

static void watch(struct process *process, struct stream *stream, int fd, int events, uv_poll_cb cb)
{
    stream->fd = fd;
    stream->poll.data = process;
    must(uv_poll_init(process->attempt.executor->loop, &stream->poll, fd));
    must(uv_poll_start(&stream->poll, events, cb));
    process->open_handles++;
}

static void watch_all(struct process *process, const struct spawned *spawned)
{
    for (int i = 0; i < SPAWN_FDS; i++)
        process->streams[i].fd = -1;
    watch(process, &process->streams[STDIN_FILENO], spawned->fds[STDIN_FILENO], UV_WRITABLE,
          on_writable);
    for (int i = STDOUT_FILENO; i < SPAWN_FDS; i++)
        if (spawned->fds[i] >= 0)
            watch(process, &process->streams[i], spawned->fds[i], UV_READABLE, on_readable);
    process->exit.fd = -1;
    if (spawned->pidfd >= 0)
        watch(process, &process->exit, spawned->pidfd, UV_READABLE, on_exit_seen);
    else
        executor_sweep_soon(process->attempt.executor);
    process->timer.data = process;
    uv_timer_init(process->attempt.executor->loop, &process->timer);
    process->open_handles++;
}

static void set_oom_score(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", pid);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    /* Where the daemon may not, the kernel's own choice stands. */
    ssize_t ignored = write(fd, OOM_SCORE, strlen(OOM_SCORE));
    (void)ignored;
    close(fd);
}

static void fail_to_spawn(struct attempt_end *end, const struct error *error)
{
    struct result result = result_of_failure(error->text, "", 0);
    *end = (struct attempt_end){.outcome = spawn_is_transient(error->code) ? ATTEMPT_NO_ROOM
                                                                           : ATTEMPT_SPAWN_FAILED,
                                .error = error->code,
                                .exit_status = -1,
                                .result = result.text,
                                .result_size = result.size};
}

static void report_spawn_failure(struct process *process, const struct error *error)
{
    struct attempt_end end;
    children_remove_family(&process->attempt.executor->children, &process->family);
    if (process->cgroup)
        cgroup_remove(process->cgroup);
    if (process->attempt.why != STOP_NONE) {
        attempt_report_unstarted(&process->attempt);
        return;
    }
    fail_to_spawn(&end, error);
    attempt_report(&process->attempt, &end);
    attempt_release(&process->attempt);
}

static void start_timer(struct process *process, int64_t ms)
{
    uv_update_time(process->attempt.executor->loop);
    uv_timer_start(&process->timer, on_phase_timer, (uint64_t)ms, 0);
}

static int make_cgroup(struct process *process, struct error *error)
{
    return cgroup_make(process->attempt.executor->options.cgroups,
                       process->name ? process->name : "unnamed", &process->limits,
                       &process->cgroup, error);
}

static int spawn_by_launcher(struct process *process, struct spawn_request *request,
                             struct spawned *spawned, struct error *error)
{
    struct launch launch = {.launcher = process->attempt.executor->options.launcher,
                            .cgroup = process->cgroup,
                            .user = process->user,
                            .group = process->group,
                            .cwd = process->cwd};
    if (!launch.launcher)
        return error_set(error, -ENOENT, "the launcher directord-exec is not installed");
    launch_wrap(&launch, &process->arena, request);
    return spawn_process(request, spawned, error);
}

static int spawn(struct process *process, struct spawned *spawned, struct error *error)
{
    struct spawn_request request = {
        .argv = process->argv, .envp = process->envp, .result_pipe = process->source == RESULT_FD};
    int code = make_cgroup(process, error);
    if (code < 0)
        return code;
    bool is_plain =
        !process->cgroup && !process->user && !process->group && strcmp(process->cwd, "/") == 0;
    char *near = is_plain ? program_find_near(process->argv[0], process->envp) : NULL;
    request.file = near;
    code = near ? spawn_process(&request, spawned, error)
                : spawn_by_launcher(process, &request, spawned, error);
    free(near);
    return code;
}

/* On a thread of the pool. */
static void spawn_in_worker(uv_work_t *work)
{
    struct start *start = work->data;
    start->at_us = clock_wall_us();
    start->code = spawn(start->process, &start->spawned, &start->error);
    if (start->code == 0)
        set_oom_score(start->spawned.pid);
}

static void run(struct process *process, const struct spawned *spawned)
{
    enum stop_reason why = process->attempt.why;
    arena_done(&process->arena);
    process->phase = RUNNING;
    process->family.leader = spawned->pid;
    children_add_family(&process->attempt.executor->children, &process->family);
    watch_all(process, spawned);
    write_input(process);
    if (process->streams[SPAWN_REPORT].fd < 0)
        tell_started(process);
    if (process->timeout_ms > 0)
        start_timer(process, process->timeout_ms);
    if (why != STOP_NONE)
        (process->kill_when_runs ? process_kill : process_stop)(&process->attempt, why);
}

/* The thread is done, or was spared the work. */
static void on_spawned(uv_work_t *work, int status)
{
    struct start *start = work->data;
    struct process *process = start->process;
    process->start = NULL;
    attempt_started(&process->attempt);
    if (status == UV_ECANCELED || start->code < 0) {
        report_spawn_failure(process, &start->error);
    } else {
        CRASH_POINT("spawned");
        process->started_us = start->at_us;
        run(process, &start->spawned);
    }
    free(start);
}

static void process_start(struct attempt *attempt)
{
    struct process *process = (struct process *)attempt;
    struct start *start = process->start = mem_new(1, sizeof *start);
    start->process = process;
    start->work.data = start;
    process->family = (struct family){.name = process->name};
    CRASH_POINT("before-spawn");
    children_await_family(&attempt->executor->children, &process->family);
    must(uv_queue_work(attempt->executor->loop, &start->work, spawn_in_worker, on_spawned));
}

/* --- the end -------------------------------------------------------------------------------- */

static struct result failure(struct process *process, const char *exception)
{
    struct buffer text = {0};
    log_ring_text(&process->stderr_tail, &text);
    struct result result = result_of_failure(exception, buffer_text(&text), text.size);
    buffer_done(&text);
    return result;
}

static struct result stopped_result(struct process *process)
{
    char text[DURATION_TEXT_SIZE + 32];
    char duration[DURATION_TEXT_SIZE];
    if (process->attempt.why != STOP_TIMED_OUT)
        return failure(process, stop_reason_text(process->attempt.why));
    duration_format(process->timeout_ms * 1000, duration);
    snprintf(text, sizeof text, "timed out after %s", duration);
    return failure(process, text);
}

static struct result failed_result(struct process *process, const struct cgroup_usage *usage)
{
    char text[RESULT_REASON_SIZE + SIZE_TEXT_SIZE + 64];
    char limit[SIZE_TEXT_SIZE] = "";
    result_exit_text(process->exit_status, process->signal, text);
    if (usage->oom_kills > 0) {
        size_t n = strlen(text);
        size_format(process->limits.memory_max, limit);
        snprintf(text + n, sizeof text - n, ": out of memory%s%s",
                 process->limits.memory_max > 0 ? ", memory_max is " : "",
                 process->limits.memory_max > 0 ? limit : "");
    }
    return failure(process, text);
}

/* The launcher did not come as far as the program. */
static bool conclude_launch(struct process *process, struct attempt_end *end)
{
    struct error error;
    if (process->report.size == 0 || process->attempt.why != STOP_NONE)
        return false;
    launch_read_report(buffer_text(&process->report), &error);
    fail_to_spawn(end, &error);
    return true;
}

/* Fills outcome and result. */
static void conclude(struct process *process, const struct cgroup_usage *usage,
                     struct attempt_end *end)
{
    struct result result = {0};
    struct error error;
    enum stop_reason why = process->attempt.why;
    if (why != STOP_NONE) {
        end->outcome = why == STOP_TIMED_OUT ? ATTEMPT_TIMED_OUT : ATTEMPT_STOPPED;
        result = stopped_result(process);
    } else if (process->signal != 0 || process->exit_status != 0) {
        end->outcome = ATTEMPT_FAILED;
        result = failed_result(process, usage);
    } else if (result_read(process->source, buffer_text(&process->result), process->result.size,
                           process->max_result_bytes, &result, &error) == 0) {
        end->outcome = ATTEMPT_SUCCESS;
    } else {
        end->outcome = ATTEMPT_BAD_RESULT;
        result = failure(process, error.text);
    }
    end->result = result.text;
    end->result_size = result.size;
}

/* From the control group what it says, else from the processes that were reaped. */
static void note_usage(const struct process *process, const struct cgroup_usage *usage,
                       struct attempt_end *end)
{
    struct rusage own;
    const struct family *family = &process->family;
    getrusage(RUSAGE_SELF, &own);
    end->cpu_us = usage->cpu_us > 0 ? usage->cpu_us : family->cpu_us;
    if (usage->peak_memory_bytes > 0)
        end->peak_memory_bytes = usage->peak_memory_bytes;
    else if (family->peak_memory_bytes > (int64_t)own.ru_maxrss * 1024)
        end->peak_memory_bytes = family->peak_memory_bytes;
}

static void report(struct process *process)
{
    struct cgroup_usage usage = {0};
    struct attempt_end end = {.why = process->attempt.why,
                              .exit_status = process->exit_status,
                              .signal = process->signal,
                              .started_us = process->started_us,
                              .ended_us = clock_wall_us(),
                              .left_behind = process->phase == ABANDONED};
    if (process->cgroup)
        usage = cgroup_read_usage(process->cgroup);
    if (!conclude_launch(process, &end)) {
        note_usage(process, &usage, &end);
        conclude(process, &usage, &end);
    }
    attempt_report(&process->attempt, &end);
}

static void close_pipes(struct process *process)
{
    for (int i = STDOUT_FILENO; i < SPAWN_FDS; i++)
        if (process->streams[i].fd >= 0)
            stream_read(process, &process->streams[i], STREAM_DRAIN_BYTES);
    for (int i = 0; i < SPAWN_FDS; i++)
        stream_close(&process->streams[i]);
}

static void close_handles(struct process *process)
{
    stream_close(&process->exit);
    uv_close((uv_handle_t *)&process->timer, on_handle_closed);
}

static bool is_closing(const struct process *process)
{
    return uv_is_closing((const uv_handle_t *)&process->timer);
}

/* Nothing of it lives: the leader, a zombie until now, gives its number back. */
static void end(struct process *process)
{
    close_pipes(process);
    children_remove_family(&process->attempt.executor->children, &process->family);
    family_reap_leader(&process->family);
    close_handles(process);
    if (!process->attempt.reported)
        report(process);
    if (process->cgroup)
        cgroup_remove(process->cgroup);
}

/* Harmless for one that has never started, or is closing already. */
static void process_abandon(struct attempt *attempt)
{
    struct process *process = (struct process *)attempt;
    if (process->open_handles == 0 || is_closing(process))
        return;
    children_remove_family(&attempt->executor->children, &process->family);
    close_handles(process);
}

/* --- the phases ----------------------------------------------------------------------------- */

/* In a control group everyone is told at once, so that the sweep has nobody to tell later. */
static void signal_all(struct process *process, int signal)
{
    bool by_group = process->cgroup && signal != SIGKILL;
    process->family.signal = by_group ? 0 : signal;
    family_signal(&process->family, signal);
    if (by_group)
        cgroup_signal(process->cgroup, signal, process->family.leader);
    else if (process->cgroup)
        cgroup_kill(process->cgroup);
    else if (signal == SIGTERM)
        family_terminate_descendants(&process->family);
    executor_sweep_soon(process->attempt.executor);
}

static void set_phase(struct process *process, enum phase phase)
{
    process->phase = phase;
    switch (phase) {
    case STARTING:
    case RUNNING:
        break;
    case TERMINATING:
        signal_all(process, SIGTERM);
        start_timer(process, process->grace_ms);
        break;
    case KILLING:
        signal_all(process, SIGKILL);
        start_timer(process, process->attempt.executor->options.kill_wait_ms);
        break;
    case ABANDONED:
        uv_timer_stop(&process->timer);
        close_pipes(process);
        report(process);
        if (process->attempt.executor->closing)
            process_abandon(&process->attempt);
        break;
    }
}

/* Until the outcome of its start is known; or no thread has come to it yet, and none will. */
static bool is_put_off(struct process *process, enum stop_reason why)
{
    if (process->phase != STARTING)
        return false;
    if (process->attempt.why == STOP_NONE)
        process->attempt.why = why;
    uv_cancel((uv_req_t *)&process->start->work);
    return true;
}

static void process_stop(struct attempt *attempt, enum stop_reason why)
{
    struct process *process = (struct process *)attempt;
    if (is_put_off(process, why) || process->phase != RUNNING)
        return;
    attempt->why = why;
    set_phase(process, process->grace_ms > 0 ? TERMINATING : KILLING);
}

static void process_kill(struct attempt *attempt, enum stop_reason why)
{
    struct process *process = (struct process *)attempt;
    if (is_put_off(process, why)) {
        process->kill_when_runs = true;
        return;
    }
    if (process->phase == RUNNING)
        attempt->why = why;
    if (process->phase < KILLING)
        set_phase(process, KILLING);
}

static void on_phase_timer(uv_timer_t *timer)
{
    struct process *process = timer->data;
    if (process->phase == RUNNING)
        process_stop(&process->attempt, STOP_TIMED_OUT);
    else
        set_phase(process, process->phase + 1);
}

static void note_exit(struct process *process, const siginfo_t *info)
{
    process->family.leader_ended = true;
    process->exit_status = info->si_code == CLD_EXITED ? info->si_status : -1;
    process->signal = info->si_code == CLD_EXITED ? 0 : info->si_status;
}

/* While a debugger traces it, its death is the debugger's to see first. */
static void look_for_exit(struct process *process)
{
    siginfo_t info = {0};
    int r = waitid(P_PID, (id_t)process->family.leader, &info, WEXITED | WNOHANG | WNOWAIT);
    if (r == 0 && info.si_pid == 0)
        return;
    note_exit(process, &info);
    if (process->phase == RUNNING)
        set_phase(process, KILLING);
    executor_sweep_soon(process->attempt.executor);
}

/* The descriptor would go on telling: from here on it is the sweeps that look. */
static void on_exit_seen(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    uv_poll_stop(poll);
    look_for_exit(poll->data);
}

/* The kill of a group may have failed, for lack of a descriptor. */
static bool is_group_gone(const struct process *process)
{
    if (!process->cgroup || !cgroup_is_populated(process->cgroup))
        return true;
    if (process->phase >= KILLING)
        cgroup_kill(process->cgroup);
    return false;
}

static enum sweep_need process_swept(struct attempt *attempt)
{
    struct process *process = (struct process *)attempt;
    if (process->phase == STARTING || is_closing(process))
        return SWEEP_NONE;
    if (!process->family.leader_ended && !uv_is_active((uv_handle_t *)&process->exit.poll))
        look_for_exit(process);
    if (!process->family.leader_ended)
        return process->phase == TERMINATING || process->exit.fd < 0 ? SWEEP_GRACE : SWEEP_NONE;
    if (!is_group_gone(process) || !process->family.is_gone)
        return process->phase == ABANDONED ? SWEEP_NONE : SWEEP_SOON;
    end(process);
    return SWEEP_NONE;
}

static const struct log_ring *process_log(const struct attempt *attempt)
{
    return &((const struct process *)attempt)->log;
}

/* What comes after this is counted, and not kept. */
static void process_forget_log(struct attempt *attempt)
{
    ((struct process *)attempt)->log = (struct log_ring){0};
}

static pid_t process_pid(const struct attempt *attempt)
{
    return ((const struct process *)attempt)->family.leader;
}

const struct attempt_kind process_kind = {
    .size = sizeof(struct process),
    .slow_start = true,
    .prepare = process_prepare,
    .start = process_start,
    .stop = process_stop,
    .kill = process_kill,
    .swept = process_swept,
    .abandon = process_abandon,
    .done = process_done,
    .log = process_log,
    .forget_log = process_forget_log,
    .pid = process_pid,
};
