/* On a tree of plain files, whose content is what the kernel would have been told, and on a real
 * one where there is one. */
#include "executor/cgroup.h"

#include <errno.h>
#include <ftw.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "base/memory.h"
#include "tests/unit/executor/cgroup_fixture.h"
#include "tests/unit/unit.h"

static char root[] = "/tmp/test-cgroup-XXXXXX";

static char *at(const char *path)
{
    return mem_format("%s/%s", root, path);
}

static void make_folder(const char *path)
{
    char *full = at(path);
    ck_assert_int_eq(mkdir(full, 0755), 0);
    free(full);
}

static void write_text(const char *path, const char *text)
{
    char *full = at(path);
    FILE *file = fopen(full, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
    free(full);
}

static bool holds(const char *path, const char *wanted)
{
    char text[256] = "";
    char *full = at(path);
    FILE *file = fopen(full, "r");
    free(full);
    if (!file)
        return wanted == NULL;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    return wanted && strcmp(text, wanted) == 0;
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(root));
    make_folder("unit");
    make_folder("unit/tasks");
    write_text("unit/cgroup.procs", "");
    write_text("unit/cgroup.controllers", "cpuset cpu io memory pids\n");
    write_text("unit/tasks/cgroup.kill", "");
}

static void tear_down(void)
{
    ck_assert_int_eq(nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* --- where ------------------------------------------------------------------------------------ */

START_TEST(is_found)
{
    static const struct {
        const char *mounted; /* the part of the hierarchy */
        const char *group;
        const char *attribute;
        const char *found; /* below the mount, or NULL */
        const char *error;
    } rows[] = {
        {"/", "/unit", "1", "/unit", NULL},
        {"/", "/unit", "0", NULL, "is not delegated"},
        {"/", "/unit", NULL, NULL, "is not delegated"},
        {"/", "/unit/tasks", "1", NULL, "is not delegated"},
        {"/docker/7", "/docker/7/unit", "1", "/unit", NULL},
        {"/docker/7", "/docker/77/unit", "1", NULL, "no control group of version 2"},
        {NULL, "/unit", "1", NULL, "no control group of version 2"},
        {"/", NULL, "1", NULL, "no control group of version 2"},
    };
    make_folder("proc");
    char *proc = at("proc"), *unit = at("unit");
    if (setxattr(unit, "user.delegate", "1", 1, 0) < 0 && errno == ENOTSUP) {
        free(proc);
        free(unit);
        return;
    }
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *mounts = mem_format("22 28 0:21 / /proc rw - proc proc rw\n"
                                  "41 31 0:38 %s %s rw shared:9 - %s cgroup2 rw,nsdelegate\n",
                                  rows[i].mounted ? rows[i].mounted : "/", root,
                                  rows[i].mounted ? "cgroup2" : "cgroup");
        char *groups = mem_format("1:name=systemd:/x\n%s%s\n", rows[i].group ? "0::" : "7:cpu:/",
                                  rows[i].group ? rows[i].group : "");
        write_text("proc/mountinfo", mounts);
        write_text("proc/cgroup", groups);
        removexattr(unit, "user.delegate");
        if (rows[i].attribute)
            ck_assert_int_eq(setxattr(unit, "user.delegate", rows[i].attribute, 1, 0), 0);
        struct error error = {0};
        char *found = NULL;
        int code = cgroup_find_delegated(proc, &found, &error);
        ck_assert_msg(code == (rows[i].found ? 0 : -ENOENT), "row %zu: %d %s", i, code, error.text);
        if (rows[i].found)
            ck_assert_msg(strcmp(found + strlen(root), rows[i].found) == 0, "row %zu: %s", i,
                          found);
        else
            ck_assert_msg(strstr(error.text, rows[i].error) != NULL, "row %zu: %s", i, error.text);
        free(found);
        free(mounts);
        free(groups);
    }
    free(proc);
    free(unit);
}
END_TEST

static struct cgroup_tree open_tree(void)
{
    struct cgroup_tree tree;
    struct error error;
    char *unit = at("unit");
    int code = cgroup_tree_open(unit, &tree, &error);
    ck_assert_msg(code == 0, "%s", error.text);
    free(unit);
    return tree;
}

START_TEST(division)
{
    write_text("unit/cgroup.procs", "4000001\n4000002\n");
    write_text("unit/pids.max", "1000\n");
    make_folder("unit/tasks/old.1");
    write_text("unit/tasks/old.1/cgroup.procs", "");
    struct cgroup_tree tree = open_tree();
    char *old = at("unit/tasks/old.1");
    ck_assert(holds("unit/daemon/cgroup.procs", "4000002"));
    ck_assert(holds("unit/cgroup.subtree_control", "+pids"));
    ck_assert(holds("unit/tasks/cgroup.subtree_control", "+pids"));
    ck_assert(holds("unit/tasks/cgroup.kill", "1"));
    ck_assert(holds("unit/tasks/pids.max", "500"));
    ck_assert_int_eq(access(old, F_OK), -1);
    ck_assert(tree.has_cpu && tree.has_memory && tree.has_pids);
    cgroup_tree_done(&tree);
    tree = open_tree(); /* as a daemon that comes after */
    cgroup_tree_done(&tree);
    free(old);
}
END_TEST

START_TEST(old_kernel)
{
    struct cgroup_tree tree;
    struct error error;
    char *unit = at("unit"), *kill = at("unit/tasks/cgroup.kill");
    unlink(kill);
    ck_assert_int_eq(cgroup_tree_open(unit, &tree, &error), -ENOSYS);
    ck_assert_ptr_nonnull(strstr(error.text, "has no cgroup.kill (Linux 5.14)"));
    free(unit);
    free(kill);
}
END_TEST

/* --- limits ----------------------------------------------------------------------------------- */

START_TEST(limits)
{
    static const struct {
        const char *controllers;
        struct cgroup_limits limits;
        const char *memory, *cpu, *tasks, *oom;
        const char *error;
    } rows[] = {
        {"cpu memory pids", {0}, NULL, NULL, NULL, "1", NULL},
        {"cpu memory pids", {.memory_max = 67108864}, "67108864", NULL, NULL, "1", NULL},
        {"cpu memory pids", {.cpu_quota = 150}, NULL, "150000 100000", NULL, "1", NULL},
        {"cpu memory pids", {.cpu_quota = 1}, NULL, "1000 100000", NULL, "1", NULL},
        {"cpu memory pids", {1048576, 50, 12}, "1048576", "50000 100000", "12", "1", NULL},
        {"pids", {.tasks_max = 5}, NULL, NULL, "5", NULL, NULL},
        {"", {0}, NULL, NULL, NULL, NULL, NULL},
        {"cpu pids", {.memory_max = 1}, 0, 0, 0, 0, "'memory_max' cannot be kept"},
        {"memory pids cpuset", {.cpu_quota = 1}, 0, 0, 0, 0, "'cpu_quota' cannot be kept"},
        {"cpu memory", {.tasks_max = 1}, 0, 0, 0, 0, "with the pids controller"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        write_text("unit/cgroup.controllers", rows[i].controllers);
        struct cgroup_tree tree = open_tree();
        struct error error = {0};
        char *group = NULL, *path = at("unit/tasks/t.1");
        int code = cgroup_make(&tree, "t.1", &rows[i].limits, &group, &error);
        if (rows[i].error) {
            ck_assert_msg(code == -ENOTSUP && strstr(error.text, rows[i].error), "row %zu: %s", i,
                          error.text);
        } else {
            ck_assert_msg(code == 0 && strcmp(group, path) == 0, "row %zu: %s", i, error.text);
            ck_assert_msg(holds("unit/tasks/t.1/memory.max", rows[i].memory), "row %zu", i);
            ck_assert_msg(holds("unit/tasks/t.1/cpu.max", rows[i].cpu), "row %zu", i);
            ck_assert_msg(holds("unit/tasks/t.1/pids.max", rows[i].tasks), "row %zu", i);
            ck_assert_msg(holds("unit/tasks/t.1/memory.oom.group", rows[i].oom), "row %zu", i);
            ck_assert_int_eq(cgroup_make(&tree, "t.1", &rows[i].limits, &group, NULL), -EEXIST);
            cgroup_remove(group);
            free(group);
        }
        ck_assert_int_eq(access(path, F_OK), -1);
        free(path);
        cgroup_tree_done(&tree);
    }
}
END_TEST

START_TEST(no_tree)
{
    static const struct cgroup_tree none;
    const struct cgroup_tree *trees[] = {NULL, &none};
    for (size_t i = 0; i < 2; i++) {
        struct error error;
        char *group = root;
        ck_assert_int_eq(cgroup_make(trees[i], "t.1", &(struct cgroup_limits){0}, &group, NULL), 0);
        ck_assert_ptr_null(group);
        ck_assert_int_eq(
            cgroup_make(trees[i], "t.1", &(struct cgroup_limits){.memory_max = 1}, &group, &error),
            -ENOTSUP);
        ck_assert_str_eq(error.text, "'memory_max' cannot be kept: the daemon has no delegated "
                                     "control group with the memory controller");
    }
}
END_TEST

START_TEST(usage)
{
    char *group = at("unit");
    struct cgroup_usage used = cgroup_read_usage(group);
    ck_assert_int_eq(used.cpu_us + used.peak_memory_bytes + used.oom_kills, 0);
    write_text("unit/cpu.stat", "usage_usec 81\nuser_usec 4\nsystem_usec 5\nnr_periods 0\n");
    write_text("unit/memory.peak", "4096000\n");
    write_text("unit/memory.events", "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 7\n");
    used = cgroup_read_usage(group);
    ck_assert_int_eq(used.cpu_us, 81);
    ck_assert_int_eq(used.peak_memory_bytes, 4096000);
    ck_assert_int_eq(used.oom_kills, 1);
    ck_assert(!cgroup_is_populated(group));
    write_text("unit/cgroup.events", "populated 1\nfrozen 0\n");
    ck_assert(cgroup_is_populated(group));
    free(group);
}
END_TEST

static pid_t start_pause(void)
{
    signal(SIGTERM, SIG_DFL); /* check's handler would end the test */
    pid_t pid = fork();
    while (pid == 0)
        pause();
    return pid;
}

static int signal_of(pid_t pid)
{
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* One whose number the list has from somebody else: this process is in no group of that name. */
START_TEST(no_other_of_the_same_number)
{
    pid_t pid = start_pause();
    char *group = at("unit/t.1"), *list = mem_format("%d\n", pid);
    make_folder("unit/t.1");
    write_text("unit/t.1/cgroup.procs", list);
    cgroup_signal(group, SIGTERM, 0);
    kill(pid, SIGKILL);
    ck_assert_int_eq(signal_of(pid), SIGKILL);
    free(group);
    free(list);
}
END_TEST

/* --- the kernel's own ------------------------------------------------------------------------- */

/* A process in the group that ignores SIGTERM, and has a child that does not. */
static pid_t start_member(const char *group)
{
    int ready[2];
    char byte;
    ck_assert_int_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        signal(SIGTERM, SIG_IGN);
        if (cgroup_join(group, NULL) < 0 || write(ready[1], "x", 1) != 1)
            _exit(1);
        pid_t child = fork();
        if (child == 0) {
            setsid();
            signal(SIGTERM, SIG_DFL);
            write_text("told", "");
            pause();
        }
        waitpid(child, NULL, 0);
        write_text("child-is-dead", "");
        for (;;)
            pause();
    }
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static void wait_for_file(const char *name)
{
    char *path = at(name);
    for (int i = 0; i < 500 && access(path, F_OK) < 0; i++)
        usleep(10000);
    ck_assert_msg(access(path, F_OK) == 0, "%s is not there", name);
    free(path);
}

/* A child of a member dies a little later than the member. */
static void wait_until_empty(const char *group)
{
    for (int i = 0; i < 500 && cgroup_is_populated(group); i++)
        usleep(10000);
    ck_assert(!cgroup_is_populated(group));
}

START_TEST(real_group)
{
    struct cgroup_tree tree;
    struct error error;
    char *group, *nested;
    const char *delegated = cgroup_fixture_make();
    if (!delegated)
        return;
    ck_assert_msg(cgroup_tree_open(delegated, &tree, &error) == 0, "%s", error.text);
    ck_assert_int_eq(cgroup_make(&tree, "t.1", &(struct cgroup_limits){0}, &group, NULL), 0);
    ck_assert(!cgroup_is_populated(group));
    pid_t pid = start_member(group);
    wait_for_file("told");
    ck_assert(cgroup_is_populated(group));
    cgroup_remove(group);
    ck_assert_int_eq(access(group, F_OK), 0);

    cgroup_signal(group, SIGTERM, 0);
    wait_for_file("child-is-dead");
    ck_assert(cgroup_is_populated(group));
    nested = mem_format("%s/own", group);
    ck_assert_int_eq(mkdir(nested, 0755), 0);
    ck_assert_int_gt(cgroup_read_usage(group).cpu_us, 0);

    cgroup_kill(group);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    wait_until_empty(group);
    cgroup_remove(group);
    ck_assert_int_eq(access(group, F_OK), -1);
    cgroup_tree_done(&tree);
    ck_assert(cgroup_fixture_remove(delegated));
    free(group);
    free(nested);
}
END_TEST

static void move(pid_t pid, const char *group)
{
    char *list = mem_format("%s/cgroup.procs", group);
    FILE *file = fopen(list, "w");
    ck_assert_int_gt(fprintf(file, "%d", pid), 0);
    ck_assert_int_eq(fclose(file), 0);
    free(list);
}

/* In groups that a task has made below its own one, to some depth; more than are searched make no
 * difference to the others. */
START_TEST(real_groups_below)
{
    enum { DEEP = 5, MANY = 150 };
    struct cgroup_tree tree;
    char *group, *below[DEEP + MANY];
    pid_t pids[DEEP];
    const char *delegated = cgroup_fixture_make();
    if (!delegated)
        return;
    ck_assert_int_eq(cgroup_tree_open(delegated, &tree, NULL), 0);
    ck_assert_int_eq(cgroup_make(&tree, "t.1", &(struct cgroup_limits){0}, &group, NULL), 0);
    for (size_t i = 0; i < DEEP; i++) {
        below[i] = mem_format("%s/own", i == 0 ? group : below[i - 1]);
        ck_assert_int_eq(mkdir(below[i], 0755), 0);
        pids[i] = start_pause();
        move(pids[i], below[i]);
    }
    pid_t spared = start_pause();
    move(spared, below[0]);
    setpgid(spared, 0);
    cgroup_signal(group, SIGTERM, spared);
    for (size_t i = 0; i < DEEP; i++)
        ck_assert_int_eq(signal_of(pids[i]), SIGTERM);
    kill(spared, SIGKILL);
    ck_assert_int_eq(signal_of(spared), SIGKILL);

    pid_t first = start_pause();
    move(first, group);
    for (size_t i = DEEP; i < DEEP + MANY; i++) {
        below[i] = mem_format("%s/%zu", group, i);
        ck_assert_int_eq(mkdir(below[i], 0755), 0);
    }
    cgroup_signal(group, SIGTERM, 0);
    ck_assert_int_eq(signal_of(first), SIGTERM);
    wait_until_empty(group);
    cgroup_remove(group);
    cgroup_tree_done(&tree);
    ck_assert(cgroup_fixture_remove(delegated));
    for (size_t i = 0; i < DEEP + MANY; i++)
        free(below[i]);
    free(group);
}
END_TEST

/* What runs in the delegated group is moved, what an earlier daemon left is killed. */
START_TEST(real_division)
{
    struct cgroup_tree tree;
    char *group;
    int status;
    const char *delegated = cgroup_fixture_make();
    if (!delegated)
        return;
    ck_assert_int_eq(cgroup_tree_open(delegated, &tree, NULL), 0);
    ck_assert_int_eq(cgroup_make(&tree, "t.1", &(struct cgroup_limits){0}, &group, NULL), 0);
    pid_t left = start_member(group), daemon = start_member(delegated);
    cgroup_tree_done(&tree);

    ck_assert_int_eq(cgroup_tree_open(delegated, &tree, NULL), 0);
    ck_assert_int_eq(waitpid(left, &status, 0), left);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    ck_assert_int_eq(access(group, F_OK), -1);
    char *leaf = mem_format("%s/daemon", delegated);
    ck_assert(cgroup_is_populated(leaf));
    cgroup_kill(leaf);
    ck_assert_int_eq(waitpid(daemon, NULL, 0), daemon);
    wait_until_empty(delegated);
    cgroup_tree_done(&tree);
    ck_assert(cgroup_fixture_remove(delegated));
    free(group);
    free(leaf);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cgroup");
    TCase *tcase = tcase_create("cgroup");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, is_found);
    tcase_add_test(tcase, division);
    tcase_add_test(tcase, old_kernel);
    tcase_add_test(tcase, limits);
    tcase_add_test(tcase, no_tree);
    tcase_add_test(tcase, usage);
    tcase_add_test(tcase, no_other_of_the_same_number);
    tcase_add_test(tcase, real_group);
    tcase_add_test(tcase, real_groups_below);
    tcase_add_test(tcase, real_division);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
