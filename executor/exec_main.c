/* directord-exec, the launcher: from a fresh process of the daemon's to a task's program.
 *
 * executor/launch.h says how it is called. It does each step while it still may: the control group
 * and the pipes belong to the daemon, files and directories are sought as the task's user. Whatever
 * fails is reported, and the program never runs with more rights or less limits than were asked
 * for.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "executor/cgroup.h"
#include "executor/launch.h"
#include "executor/program.h"

/* Programs that still use select(2) break with descriptors above it; who needs more may raise the
 * soft limit to the hard one. */
#define SOFT_NOFILE 1024
/* As a shell's, when a command could not be run. */
#define FAILED_STATUS 126

/* --- identity --------------------------------------------------------------------------------- */

struct identity {
    uid_t uid;
    gid_t gid;
    const char *name; /* of the user: its groups are taken on, too; NULL: a number without one */
    const char *home;
};

/* The highest number means "none" to setresuid(2). */
static bool parse_number(const char *name, uint32_t *number)
{
    size_t digits = strspn(name, "0123456789");
    unsigned long long value = strtoull(name, NULL, 10);
    if (digits == 0 || digits > 10 || name[digits] != '\0' || value >= UINT32_MAX)
        return false;
    *number = (uint32_t)value;
    return true;
}

/* What getpwnam(3) leaves in errno when the databases could be asked and know nothing. */
static bool is_unknown(void)
{
    return errno == 0 || errno == ENOENT || errno == ESRCH;
}

static int not_found(const char *what, const char *name, struct error *error)
{
    if (is_unknown())
        return error_set(error, -ENOENT, "%s '%s' does not exist", what, name);
    return error_set(error, -errno, "cannot look up %s '%s': %s", what, name, strerror(errno));
}

static int find_user(const char *name, struct identity *identity, struct error *error)
{
    uint32_t number;
    errno = 0;
    const struct passwd *entry = getpwnam(name);
    bool is_number = !entry && is_unknown() && parse_number(name, &number);
    if (is_number)
        entry = getpwuid(number);
    if (entry)
        *identity = (struct identity){entry->pw_uid, entry->pw_gid, mem_text(entry->pw_name),
                                      mem_text(entry->pw_dir)};
    else if (is_number && is_unknown()) /* one without a name, as in containers */
        *identity = (struct identity){number, number, NULL, "/"};
    else
        return not_found("user", name, error);
    return 0;
}

static int find_group(const char *name, gid_t *gid, struct error *error)
{
    uint32_t number;
    errno = 0;
    const struct group *entry = getgrnam(name);
    if (entry)
        *gid = entry->gr_gid;
    else if (is_unknown() && parse_number(name, &number))
        *gid = number;
    else
        return not_found("group", name, error);
    return 0;
}

static int find_identity(const char *user, const char *group, struct identity *identity,
                         struct error *error)
{
    char own[16];
    snprintf(own, sizeof own, "%u", geteuid());
    int code = find_user(*user ? user : own, identity, error);
    if (code == 0 && !*user)
        identity->gid = getegid();
    if (code == 0 && *group)
        code = find_group(group, &identity->gid, error);
    return code;
}

/* So that `> /dev/fd/3`, which opens the pipe anew, works for the user, too. What is no pipe, such
 * as /dev/null, is the whole machine's. */
static int give_pipes(const struct identity *identity, struct error *error)
{
    struct stat info;
    for (int fd = 0; fd <= SPAWN_RESULT; fd++)
        if (fstat(fd, &info) < 0 ||
            (S_ISFIFO(info.st_mode) && fchown(fd, identity->uid, identity->gid) < 0))
            return error_set(error, -errno, "cannot give a pipe to user %u: %s", identity->uid,
                             strerror(errno));
    return 0;
}

static int take_groups(const struct identity *identity)
{
    return identity->name ? initgroups(identity->name, identity->gid)
                          : setgroups(1, &identity->gid);
}

static int change_identity(const struct identity *identity, struct error *error)
{
    if (take_groups(identity) == 0 && setresgid(identity->gid, identity->gid, identity->gid) == 0 &&
        setresuid(identity->uid, identity->uid, identity->uid) == 0)
        return 0;
    return error_set(error, -errno, "cannot become user %u: %s", identity->uid, strerror(errno));
}

/* `*home` is set where the user's own directory is meant. */
static int take_identity(const char *user, const char *group, const char **home,
                         struct error *error)
{
    struct identity identity = {0};
    if (!*user && !*group)
        return 0;
    int code = find_identity(user, group, &identity, error);
    if (code < 0)
        return code;
    if (*user)
        *home = identity.home;
    if (identity.uid == geteuid() && identity.gid == getegid())
        return 0;
    if (geteuid() != 0)
        return error_set(error, -EPERM,
                         "cannot become user '%s' with group %u: the daemon does not run as root",
                         *user           ? user
                         : identity.name ? identity.name
                                         : "-",
                         identity.gid);
    code = give_pipes(&identity, error);
    return code < 0 ? code : change_identity(&identity, error);
}

/* --- the program ------------------------------------------------------------------------------ */

static void lower_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur <= SOFT_NOFILE)
        return;
    limit.rlim_cur = SOFT_NOFILE;
    setrlimit(RLIMIT_NOFILE, &limit);
}

/* Takes the marks off, and adds HOME where it is missing. */
static char **make_environment(const char *home)
{
    size_t n = 0;
    bool has_home = home == NULL;
    while (environ[n])
        n++;
    char **envp = mem_new(n + 2, sizeof *envp);
    for (size_t i = 0; i < n; i++) {
        envp[i] = environ[i] + (environ[i][0] == LAUNCH_ENV_MARK);
        has_home = has_home || strncmp(envp[i], "HOME=", 5) == 0;
    }
    if (!has_home)
        envp[n] = mem_format("HOME=%s", home);
    return envp;
}

/* Returns only when it fails. */
static int run_program(char **argv, char **envp, const char *cwd, struct error *error)
{
    char *file;
    if (chdir(cwd) < 0)
        return error_set(error, -errno, "cannot enter directory '%s': %s", cwd, strerror(errno));
    int code = program_find(argv[0], envp, cwd, &file, error);
    if (code < 0)
        return code;
    execve(file, argv, envp);
    return program_explain(file, cwd, -errno, error);
}

/* A daemon that goes on after its files were replaced waits, without losing attempts, until it is
 * restarted too. */
static int check_version(const char *version, struct error *error)
{
    if (strcmp(version, DIRECTORD_VERSION) == 0)
        return 0;
    return error_set(error, -EAGAIN,
                     "directord %s cannot work with directord-exec " DIRECTORD_VERSION
                     ": restart the daemon",
                     version);
}

static int launch(char **argv, struct error *error)
{
    const char *home = NULL;
    int code = check_version(argv[LAUNCH_VERSION], error);
    if (code == 0 && *argv[LAUNCH_CGROUP])
        code = cgroup_join(argv[LAUNCH_CGROUP], error);
    if (code == 0)
        code = take_identity(argv[LAUNCH_USER], argv[LAUNCH_GROUP], &home, error);
    if (code < 0)
        return code;
    lower_descriptors();
    return run_program(argv + LAUNCH_PROGRAM, make_environment(home), argv[LAUNCH_CWD], error);
}

int main(int argc, char **argv)
{
    struct error error = {0};
    if (argc <= LAUNCH_PROGRAM || fcntl(SPAWN_REPORT, F_SETFD, FD_CLOEXEC) < 0) {
        fputs("directord-exec is started by directord, to start a task.\n", stderr);
        return FAILED_STATUS;
    }
    launch(argv, &error);
    dprintf(SPAWN_REPORT, "%d %s", -error.code, error.text);
    return FAILED_STATUS;
}
