/* A throw-away PostgreSQL for a test program: its own cluster in a temporary folder, reachable by
 * its unix socket only.
 *
 * PostgreSQL refuses to run as root, so root's tests run it as the user `postgres`. The superuser
 * of the cluster is `postgres` and needs no password. The programs come from the folder that
 * `pg_config --bindir` names.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pg_fixture {
    char folder[64]; /* holds data/, the log and the socket */
    char conninfo[128];
};

/* Runs a command of the cluster's user with PostgreSQL's programs in the PATH; a failure ends the
 * program. */
static inline void pg_fixture_run(const struct pg_fixture *fixture, const char *command)
{
    char line[1024];
    int n = snprintf(
        line, sizeof(line),
        "cd %s && PATH=\"$(pg_config --bindir):$PATH\" %s sh -c '%s' >>%s/log 2>&1 </dev/null",
        fixture->folder, geteuid() == 0 ? "runuser -u postgres --" : "", command, fixture->folder);
    if (n >= (int)sizeof(line) || system(line) != 0) {
        fprintf(stderr, "pg_fixture: failed: %s (see %s/log)\n", command, fixture->folder);
        exit(EXIT_FAILURE);
    }
}

static inline void pg_fixture_start(const struct pg_fixture *fixture)
{
    pg_fixture_run(fixture, "pg_ctl -s -w -D data -l data/log start");
}

/* `mode` is smart, fast or immediate. */
static inline void pg_fixture_stop(const struct pg_fixture *fixture, const char *mode)
{
    char command[64];
    snprintf(command, sizeof(command), "pg_ctl -s -w -D data -m %s stop", mode);
    pg_fixture_run(fixture, command);
}

/* Root may write there too; the file stays the cluster's. */
static inline void pg_fixture_configure(const struct pg_fixture *fixture)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/data/postgresql.conf", fixture->folder);
    FILE *file = fopen(path, "a");
    if (file == NULL ||
        fprintf(file,
                "listen_addresses = ''\nunix_socket_directories = '%s'\n"
                "fsync = off\nclient_min_messages = warning\n",
                fixture->folder) < 0 ||
        fclose(file) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}

static inline void pg_fixture_open(struct pg_fixture *fixture)
{
    char command[96];
    snprintf(fixture->folder, sizeof(fixture->folder), "/tmp/directord-pg-XXXXXX");
    if (mkdtemp(fixture->folder) == NULL) {
        perror("pg_fixture: mkdtemp");
        exit(EXIT_FAILURE);
    }
    snprintf(command, sizeof(command), "chown postgres %s", fixture->folder);
    if (geteuid() == 0 && system(command) != 0)
        exit(EXIT_FAILURE);
    snprintf(fixture->conninfo, sizeof(fixture->conninfo), "host=%s user=postgres dbname=postgres",
             fixture->folder);
    pg_fixture_run(fixture, "initdb -D data -U postgres -A trust -E UTF8 --locale=C --no-sync");
    pg_fixture_configure(fixture);
    pg_fixture_start(fixture);
}

static inline void pg_fixture_close(struct pg_fixture *fixture)
{
    char command[96];
    pg_fixture_stop(fixture, "immediate");
    snprintf(command, sizeof(command), "rm -rf %s", fixture->folder);
    if (system(command) != 0)
        exit(EXIT_FAILURE);
}
