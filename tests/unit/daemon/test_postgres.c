/* Drives the private PostgreSQL against real programs, in one temporary directory under /tmp; each
 * test begins where the one before it ended, since a cluster takes seconds to make. Passed over
 * where PostgreSQL is not installed. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "daemon/command.h"
#include "daemon/postgres.h"
#include "daemon/postgres_cluster.h"
#include "daemon/state_dir.h"
#include "tests/unit/unit.h"

static char root[] = "/tmp/directord.XXXXXX";
static struct postgres_cluster cluster;

static char *path_of(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static struct postgres *start(void)
{
    struct error error = {0};
    struct postgres *postgres = postgres_start(root, "", &error);
    ck_assert_msg(postgres != NULL, "%s", error.text);
    return postgres;
}

static pid_t server_pid(void)
{
    long pid = 0;
    FILE *file = fopen(path_of("postgresql/postmaster.pid"), "re");
    if (file && fscanf(file, "%ld", &pid) != 1)
        pid = 0;
    if (file)
        fclose(file);
    return (pid_t)pid;
}

static void stop(struct postgres *postgres)
{
    postgres_stop(postgres);
    ck_assert_int_eq(server_pid(), 0);
}

static bool accepts_connections(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/postgresql/.s.PGSQL.5432", root);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return connected;
}

/* The server is our child until we end; nobody else reaps it here. */
static void kill_server(pid_t pid)
{
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    waitpid(pid, NULL, 0);
}

/* What psql says, as the user that the tests run as. */
static void assert_query(const char *sql, const char *expected)
{
    char line[512], *command = mem_format("psql -h %s/postgresql -U %s -d directord -Atc \"%s\"",
                                          root, cluster.owner.name, sql);
    FILE *output = popen(command, "r");
    ck_assert_ptr_nonnull(output);
    ck_assert_msg(fgets(line, sizeof line, output) != NULL, "no answer to %s", sql);
    line[strcspn(line, "\n")] = '\0';
    ck_assert_str_eq(line, expected);
    ck_assert_int_eq(pclose(output), 0);
    free(command);
}

/* Killed when initdb has made the file, a name in the fresh cluster. */
static void make_and_be_killed_at(const char *name)
{
    char *file = mem_format("%s/postgresql.new/%s", root, name);
    pid_t daemon = fork();
    if (daemon == 0) {
        postgres_start(root, "", NULL);
        _exit(0);
    }
    while (access(file, F_OK) != 0 && waitpid(daemon, NULL, WNOHANG) == 0)
        sched_yield();
    ck_assert_int_eq(kill(daemon, SIGKILL), 0);
    waitpid(daemon, NULL, 0);
    ck_assert_int_ne(access(path_of("postgresql"), F_OK), 0);
    free(file);
}

START_TEST(an_interrupted_make_is_no_obstacle)
{
    make_and_be_killed_at("PG_VERSION");
    make_and_be_killed_at("base/1/pg_filenode.map");
    make_and_be_killed_at("base/5");
    struct postgres *postgres = start();
    ck_assert(accepts_connections());
    ck_assert_int_ne(access(path_of("postgresql.new"), F_OK), 0);
    stop(postgres);
    ck_assert(!accepts_connections());
    ck_assert_int_eq(server_pid(), 0);
}
END_TEST

START_TEST(it_is_private_and_durable)
{
    struct postgres *postgres = start();
    char expected[256];
    assert_query("show listen_addresses", "");
    assert_query("show fsync", "on");
    assert_query("show synchronous_commit", "on");
    assert_query("show max_connections", "100");
    assert_query("select pg_encoding_to_char(encoding), datcollate, datctype from pg_database "
                 "where datname = current_database()",
                 "UTF8|C|C");
    snprintf(expected, sizeof expected, "%s|%s", cluster.owner.name, cluster.owner.name);
    assert_query(
        "select current_user, datdba::regrole from pg_database where datname = 'directord'",
        expected);
    struct stat status;
    ck_assert_int_eq(stat(path_of("postgresql"), &status), 0);
    ck_assert_int_eq(status.st_mode & 07777, 0700);
    ck_assert_uint_eq(status.st_uid, cluster.owner.uid);
    ck_assert_int_ne(getsid(server_pid()), getsid(0));
    stop(postgres);
}
END_TEST

START_TEST(a_server_that_runs_is_adopted)
{
    struct postgres *killed_daemon = start();
    pid_t pid = server_pid();
    struct postgres *next_daemon = start();
    ck_assert_int_eq(server_pid(), pid);
    stop(next_daemon);
    ck_assert_int_eq(server_pid(), 0);
    stop(killed_daemon);
}
END_TEST

START_TEST(a_killed_server_is_started_again)
{
    struct postgres *postgres = start();
    struct error error = {0};
    pid_t pid = server_pid();
    ck_assert_msg(postgres_ensure(postgres, &error) == 0, "%s", error.text);
    ck_assert_int_eq(server_pid(), pid);
    kill_server(pid);
    ck_assert_msg(postgres_ensure(postgres, &error) == 0, "%s", error.text);
    ck_assert_int_ne(server_pid(), pid);
    ck_assert(accepts_connections());
    stop(postgres);
}
END_TEST

/* The pid file of a dead server may name a process that is alive, and of its user. */
START_TEST(a_stale_pid_file_is_no_obstacle)
{
    struct postgres *postgres = start();
    kill_server(server_pid());
    pid_t other = fork();
    if (other == 0) {
        if (setuid(cluster.owner.uid) == 0)
            pause();
        _exit(0);
    }
    FILE *file = fopen(path_of("postgresql/postmaster.pid"), "r+e");
    fprintf(file, "%ld\n", (long)other);
    fclose(file);

    struct error error = {0};
    ck_assert_msg(postgres_ensure(postgres, &error) == 0, "%s", error.text);
    ck_assert_int_ne(server_pid(), other);
    ck_assert_int_eq(kill(other, SIGKILL), 0);
    waitpid(other, NULL, 0);
    stop(postgres);
}
END_TEST

START_TEST(a_failed_start_quotes_the_server)
{
    FILE *file = fopen(path_of("postgresql/postgresql.auto.conf"), "ae");
    fputs("max_connections = many\n", file);
    fclose(file);
    struct error error = {0};
    ck_assert_ptr_null(postgres_start(root, "", &error));
    ck_assert_msg(strstr(error.text, "max_connections") && strstr(error.text, "server.log"),
                  "found: %s", error.text);
}
END_TEST

START_TEST(places_that_cannot_work_are_refused)
{
    static const struct {
        const char *state_dir, *bin_dir, *expected;
        bool for_root;
    } rows[] = {
        {"/root/directord", "", "for whom /root is closed", true},
        {"/tmp/nowhere", "", "for whom /tmp/nowhere is closed", false},
        {"/tmp", "/tmp", "DIRECTOR_POSTGRES_BIN: /tmp holds no programs", false},
        {"/tmp/a,b", "", "must not hold a comma", false},
        {"/tmp/1234567890123456789012345678901234567890123456789012345678901234567890123456789012",
         "", "PostgreSQL's socket in it may have 107 bytes, not 112", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct postgres_cluster found;
        struct error error = {0};
        if (rows[i].for_root && geteuid() != 0)
            continue;
        int code = postgres_cluster_find(rows[i].state_dir, rows[i].bin_dir, &found, &error);
        ck_assert_msg(code == -EINVAL && error.code == code && strstr(error.text, rows[i].expected),
                      "row %zu: found %s", i, error.text);
    }
}
END_TEST

START_TEST(a_state_directory_has_one_daemon)
{
    char *path = mem_format("%s/a/b", root);
    struct state_dir first, second;
    struct error error = {0};
    ck_assert_int_eq(state_dir_open(path, &first, &error), 0);
    ck_assert_str_eq(first.path, path);
    ck_assert_int_eq(state_dir_open(path, &second, &error), -EBUSY);
    char *expected = mem_format("state directory %s belongs to a running directord (process %ld)",
                                path, (long)getpid());
    ck_assert_str_eq(error.text, expected);
    state_dir_close(&first);
    ck_assert_int_eq(state_dir_open(path, &second, &error), 0);
    state_dir_close(&second);
    ck_assert_int_eq(state_dir_open("/dev/null/x", &second, &error), -ENOTDIR);
    free(expected);
    free(path);
}
END_TEST

static struct id id_of(const char *path)
{
    struct state_dir dir;
    struct error error = {0};
    ck_assert_msg(state_dir_open(path, &dir, &error) == 0, "%s", error.text);
    struct id id = dir.id;
    state_dir_close(&dir);
    return id;
}

START_TEST(a_state_directory_has_an_id_of_its_own)
{
    char *path = mem_format("%s/original", root);
    char *copy = mem_format("%s/copy", root);
    char *command = mem_format("cp -a %s %s", path, copy);
    struct id original = id_of(path);
    struct id again = id_of(path);
    ck_assert(!id_is_null(&original));
    ck_assert_int_eq(id_compare(&original, &again), 0);
    ck_assert_int_eq(system(command), 0);
    struct id copied = id_of(copy);
    ck_assert_int_ne(id_compare(&original, &copied), 0);
    free(command);
    command = mem_format("echo nonsense >%s/id", copy);
    ck_assert_int_eq(system(command), 0);
    struct id repaired = id_of(copy);
    ck_assert_int_ne(id_compare(&copied, &repaired), 0);
    free(command);
    free(copy);
    free(path);
}
END_TEST

static void clear_root(void)
{
    struct identity self;
    const char *argv[] = {"/bin/rm", "-rf", root, NULL};
    if (identity_find(geteuid(), &self, NULL) == 0 &&
        command_run(argv, &self, NULL, 10000, NULL) == 0)
        identity_done(&self);
}

int main(void)
{
    struct error error = {0};
    log_start(LOG_LEVEL_ERROR, LOG_FORMAT_LOGFMT);
    if (!mkdtemp(root) || chmod(root, 0755) < 0)
        return EXIT_FAILURE;
    Suite *suite = suite_create("postgres");
    TCase *tests = tcase_create("postgres");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, a_state_directory_has_one_daemon);
    tcase_add_test(tests, a_state_directory_has_an_id_of_its_own);
    tcase_add_test(tests, places_that_cannot_work_are_refused);
    if (postgres_cluster_find(root, "", &cluster, &error) < 0) {
        printf("no server is tested: %s\n", error.text);
    } else {
        tcase_add_test(tests, an_interrupted_make_is_no_obstacle);
        tcase_add_test(tests, it_is_private_and_durable);
        tcase_add_test(tests, a_server_that_runs_is_adopted);
        tcase_add_test(tests, a_killed_server_is_started_again);
        tcase_add_test(tests, a_stale_pid_file_is_no_obstacle);
        tcase_add_test(tests, a_failed_start_quotes_the_server);
    }
    int status = unit_run(suite);
    postgres_cluster_done(&cluster);
    clear_root();
    return status;
}
