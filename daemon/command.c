#include "daemon/command.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/clock.h"
#include "base/memory.h"

enum { TAIL_BYTES = 600 };

/* --- users ----------------------------------------------------------------------------------- */

static int take_entry(const struct passwd *entry, struct identity *identity)
{
    *identity = (struct identity){
        .uid = entry->pw_uid,
        .gid = entry->pw_gid,
        .name = mem_text(entry->pw_name),
    };
    return 0;
}

int identity_find(uid_t uid, struct identity *identity, struct error *error)
{
    const struct passwd *entry = getpwuid(uid);
    if (!entry)
        return error_set(error, -ENOENT, "user id %ld has no name on this system", (long)uid);
    return take_entry(entry, identity);
}

int identity_find_name(const char *name, struct identity *identity, struct error *error)
{
    const struct passwd *entry = getpwnam(name);
    if (!entry)
        return error_set(error, -ENOENT, "there is no user '%s' on this system", name);
    return take_entry(entry, identity);
}

void identity_done(struct identity *identity)
{
    free(identity->name);
    *identity = (struct identity){0};
}

/* --- processes ------------------------------------------------------------------------------- */

static int drop_privileges(const struct identity *identity)
{
    if (geteuid() == identity->uid)
        return 0;
    if (setgroups(1, &identity->gid) < 0 ||
        setresgid(identity->gid, identity->gid, identity->gid) < 0 ||
        setresuid(identity->uid, identity->uid, identity->uid) < 0)
        return -1;
    return 0;
}

static void reset_signals(void)
{
    sigset_t none;
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* glibc gives memory back to the kernel after each statement, and faults it in again for the next:
 * a third of what a call of finish() costs. What is kept instead are some MiB a process. */
static const char *const environment[] = {
    "PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C",
    "MALLOC_TRIM_THRESHOLD_=4194304",    "MALLOC_MMAP_THRESHOLD_=4194304",
    "MALLOC_TOP_PAD_=1048576",           NULL,
};

/* In the child: only calls that are safe between fork and exec in a program with threads
 * (signal-safety(7)). The death signal comes after the change of user, which clears it; a parent
 * that died before it was set shows by getppid(). */
static void become(const struct command *command, int null_fd, pid_t parent)
{
    int input = command->input_fd < 0 ? null_fd : command->input_fd;
    int output = command->output_fd < 0 ? null_fd : command->output_fd;

    reset_signals();
    setsid();
    umask(077);
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 ||
        dup2(output, STDERR_FILENO) < 0 || close_range(3, ~0U, 0) < 0 || chdir("/") < 0 ||
        drop_privileges(command->identity) < 0)
        _exit(127);
    if (!command->outlives && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
        _exit(127);
    execve(command->argv[0], (char *const *)command->argv, (char *const *)environment);
    static const char complaint[] = "this program cannot be executed";
    if (write(STDERR_FILENO, complaint, sizeof complaint - 1) < 0)
        _exit(126);
    _exit(127);
}

int command_start(const struct command *command, struct error *error)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return error_set(error, -errno, "/dev/null: %s", strerror(errno));
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0)
        become(command, null_fd, parent);
    int pidfd = pid < 0 ? -errno : pidfd_open(pid, 0);
    if (pid > 0 && pidfd < 0)
        pidfd = -errno;
    close(null_fd);
    if (pidfd < 0)
        return error_set(error, pidfd, "cannot start %s: %s", command->argv[0], strerror(-pidfd));
    return pidfd;
}

bool command_wait(int pidfd, int64_t timeout_ms)
{
    int64_t deadline_us = clock_mono_us() + timeout_ms * 1000;
    struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
    for (;;) {
        int64_t left_us = deadline_us - clock_mono_us();
        int n = poll(&poll_fd, 1, left_us > 0 ? (int)((left_us + 999) / 1000) : 0);
        if (n > 0)
            return true;
        if (n == 0 && left_us <= 0)
            return false;
    }
}

/* A memory file that holds the text, to be read from its start. */
static int make_input(const char *text)
{
    int fd = memfd_create("input", MFD_CLOEXEC);
    size_t size = strlen(text);
    if (fd >= 0 && pwrite(fd, text, size, 0) != (ssize_t)size) {
        close(fd);
        return -1;
    }
    return fd;
}

char *command_tail(int fd, off_t start)
{
    off_t end = lseek(fd, 0, SEEK_END);
    if (end - start > TAIL_BYTES)
        start = end - TAIL_BYTES;
    char text[TAIL_BYTES];
    ssize_t n = pread(fd, text, sizeof text, start);
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == ' '))
        n--;

    struct buffer line = {0};
    for (ssize_t i = 0; i < n; i++) {
        if (text[i] == '\n')
            buffer_add_text(&line, " | ");
        else
            buffer_add_char(&line, (unsigned char)text[i] < ' ' ? ' ' : text[i]);
    }
    return buffer_take(&line);
}

/* The executor reaps every child of the daemon, also this one: then how it ended is not known, and
 * taken for good. Who runs commands while tasks run checks what came of them. */
static int check_end(int pidfd, const char *program, int output_fd, struct error *error)
{
    siginfo_t end = {0};
    if (waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED) < 0 ||
        (end.si_code == CLD_EXITED && end.si_status == 0))
        return 0;
    char *tail = command_tail(output_fd, 0);
    const char *how = end.si_code == CLD_EXITED ? "exit status" : "signal";
    int code = error_set(error, -EIO, "%s ended with %s %d: %s", program, how, end.si_status, tail);
    free(tail);
    return code;
}

int command_run(const char *const *argv, const struct identity *identity, const char *input,
                int64_t timeout_ms, struct error *error)
{
    int output_fd = memfd_create("output", MFD_CLOEXEC);
    int input_fd = make_input(input ? input : "");
    struct command command = {
        .argv = argv, .identity = identity, .input_fd = input_fd, .output_fd = output_fd};
    int pidfd = output_fd < 0 || input_fd < 0
                    ? error_set(error, -errno, "%s: no memory file: %s", argv[0], strerror(errno))
                    : command_start(&command, error);
    int code = pidfd;
    if (pidfd >= 0 && command_wait(pidfd, timeout_ms)) {
        code = check_end(pidfd, argv[0], output_fd, error);
    } else if (pidfd >= 0) {
        pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){0}, WEXITED);
        code = error_set(error, -ETIMEDOUT, "%s took longer than %d s", argv[0],
                         (int)(timeout_ms / 1000));
    }
    if (pidfd >= 0)
        close(pidfd);
    if (input_fd >= 0)
        close(input_fd);
    if (output_fd >= 0)
        close(output_fd);
    return code;
}
