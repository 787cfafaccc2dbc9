/* The exit statuses of directord. `--help`, docs/operations.md and the unit's
 * RestartPreventExitStatus= name them. */
#pragma once

enum exit_status {
    EXIT_STATUS_OK = 0,
    EXIT_STATUS_FAILURE = 1, /* --check found errors, or something broke that should not break */
    EXIT_STATUS_USAGE = 2,   /* the command line */
    EXIT_STATUS_UNAVAILABLE =
        69, /* another try may work: a port in use, a state directory in use, no memory */
    EXIT_STATUS_CONFIG = 78, /* somebody must change something first: a setting, a password, a
                               directory, what is installed */
};
