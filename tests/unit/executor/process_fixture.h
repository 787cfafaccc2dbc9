/* Attempts that are processes, on a real loop: started plainly, and in control groups of their own
 * where this machine has them. */
#pragma once

#include "base/clock.h"
#include "base/memory.h"
#include "tests/unit/executor/attempt_fixture.h"
#include "tests/unit/executor/cgroup_fixture.h"

/* Far longer than anything takes on a busy machine, and far shorter than what it must not wait
 * for. */
#define SOON_US (20 * US_PER_SECOND)

static const char *delegated; /* NULL: there are no groups */
static struct cgroup_tree tree;

static inline void set_up_plain(void)
{
    fixture_set_up(
        &(struct executor_options){.kill_wait_ms = 1000, .launcher = fixture_launcher()});
}

static inline void set_up_cgroups(void)
{
    delegated = cgroup_fixture_make();
    if (delegated)
        ck_assert_int_eq(cgroup_tree_open(delegated, &tree, NULL), 0);
    fixture_set_up(&(struct executor_options){
        .kill_wait_ms = 1000, .cgroups = &tree, .launcher = fixture_launcher()});
}

static inline void tear_down_cgroups(void)
{
    fixture_tear_down();
    if (delegated)
        ck_assert(cgroup_fixture_remove(delegated)); /* each attempt has removed its own */
    cgroup_tree_done(&tree);
}

static inline TCase *add_case(Suite *suite, const char *name, void (*set_up)(void),
                              void (*tear_down)(void))
{
    TCase *tcase = tcase_create(name);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    suite_add_tcase(suite, tcase);
    return tcase;
}

static inline TCase *add_plain_case(Suite *suite)
{
    return add_case(suite, "plain", set_up_plain, fixture_tear_down);
}

static inline TCase *add_grouped_case(Suite *suite)
{
    return add_case(suite, "in control groups", set_up_cgroups, tear_down_cgroups);
}
