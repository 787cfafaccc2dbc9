/* The files of the private PostgreSQL: where they are, whose they are, and how they come to be. */
#pragma once

#include "base/error.h"
#include "daemon/command.h"

/* In the data directory. */
#define POSTGRES_SOCKET_NAME ".s.PGSQL.5432"

struct postgres_cluster {
    char *state_dir;
    char *data_dir;         /* `<state>/postgresql` */
    char *bin_dir;          /* of a version that fits the cluster */
    struct identity owner;  /* whom the server runs as; its role has the same name */
    struct identity daemon; /* whom we run as */
};

/* Finds out all of the above; touches nothing. -EINVAL: it will not do before somebody changes
 * something. */
int postgres_cluster_find(const char *state_dir, const char *bin_dir,
                          struct postgres_cluster *cluster, struct error *error);
void postgres_cluster_done(struct postgres_cluster *cluster);
/* Makes the cluster, with its database, if there is none: beside its place, and moved there when it
 * is whole, so that one that was interrupted leaves only what the next call clears away. `*made`
 * says whether there was something to do. -EINVAL: the place is taken. */
int postgres_cluster_make(const struct postgres_cluster *cluster, bool *made, struct error *error);
/* Writes the files that say how the server runs and who may connect. */
int postgres_cluster_configure(const struct postgres_cluster *cluster, struct error *error);
