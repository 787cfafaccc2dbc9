/* The frame of every unit test program: one suite, run by check, with its closing line. */
#pragma once

#include <check.h>
#include <stdlib.h>

/* Runs the suite and makes main's exit status. CK_FORK=no runs it under a debugger. */
static inline int unit_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
