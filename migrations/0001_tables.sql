-- The rows. One database holds the whole state of every daemon that shares it; docs/database.md shows how to look at it.
--
-- Every status is one of these five words, for workflows and for tasks:
--
--     pending ──> progress ──> success | error | canceled
--        ^           │
--        └───────────┘  a failed attempt with attempts left, or an attempt that its node never began
--
-- Nothing leaves a final status (success, error, canceled).

CREATE TYPE status AS ENUM ('pending', 'progress', 'success', 'error', 'canceled');

-- The last version of each definition file that loaded without an error, so that a restart with a broken file
-- still finds the good one. Keyed by host and directory: daemons may have files of their own.
CREATE TABLE definition_files (
    host text NOT NULL,
    directory text NOT NULL,
    name text NOT NULL,
    content text NOT NULL,
    loaded timestamptz NOT NULL DEFAULT now(), -- said anew every day while a daemon lives on that host
    PRIMARY KEY (host, directory, name)
);

-- One row a version, found by its digest. A workflow keeps the version that it was launched with.
CREATE TABLE definitions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    fullname text NOT NULL,
    project text NOT NULL,
    name text NOT NULL,
    file text NOT NULL,
    document json NOT NULL,             -- as written in the file
    concurrency integer,                -- unfinished instances at once; NULL: any number
    overlap text NOT NULL DEFAULT 'queue' CHECK (overlap IN ('queue', 'skip', 'replace')),
    retention integer,                  -- finished instances kept; NULL: the daemon's default; -1: all
    timeout double precision,           -- seconds that a run may take; NULL: any
    created timestamptz NOT NULL DEFAULT now(),
    used timestamptz NOT NULL DEFAULT now(), -- by a daemon that has it loaded; said anew every hour. Of the versions of
                                        -- a name the one used last counts, also after an older file came back
    relaunched timestamptz              -- an instance of it from its failure, last; to the hour; NULL: never
);
CREATE INDEX definitions_by_name ON definitions (fullname, id);

-- The compiled graph of a version. Positions count from 0 in execution order; hooks come behind the last task.
CREATE TABLE definition_tasks (
    definition_id bigint NOT NULL REFERENCES definitions ON DELETE CASCADE,
    position integer NOT NULL,
    role text NOT NULL DEFAULT 'task' CHECK (role IN ('task', 'success', 'error')), -- or the hook of that ending
    key text NOT NULL,
    queue text NOT NULL,
    previous integer[] NOT NULL,        -- a success hook has the last tasks here: its args come from them
    next integer[] NOT NULL,
    waiting integer NOT NULL,           -- how many predecessors
    closes boolean NOT NULL,            -- the only task that none follows: all others come before it, near or far, so that
                                        -- the workflow ends when it does
    action json,                        -- what to run; NULL: nothing (noop)
    retry_limit integer NOT NULL,       -- attempts after a failed one
    retry_interval double precision NOT NULL, -- seconds before the first of them
    retry_backoff double precision NOT NULL,  -- factor for each further one
    retry_max_interval double precision NOT NULL,
    PRIMARY KEY (definition_id, position)
);

-- The rows that admission by `concurrency` locks: one a definition name that has ever had a limit.
CREATE TABLE admissions (
    fullname text PRIMARY KEY
);

-- Ids are UUIDv7 made by the daemon at the moment that `created` says, so order by id is order by created.
-- There are no foreign keys between workflows, tasks and attempts: they are written only by the engine's functions,
-- and a check a row would cost more than the row.
CREATE TABLE workflows (
    id uuid PRIMARY KEY,
    definition_id bigint NOT NULL,
    project text NOT NULL,
    name text NOT NULL,
    status status NOT NULL,
    periodic boolean NOT NULL DEFAULT false,
    limited text,                       -- full name of an instance that counts for its `concurrency`: until it has
                                        -- ended, and its processes are gone
    queued boolean NOT NULL DEFAULT false, -- pending until its `concurrency` has room
    created timestamptz NOT NULL,
    updated timestamptz NOT NULL,
    started timestamptz,
    finished timestamptz,
    deadline timestamptz,               -- of an unfinished run with a timeout
    scheduled timestamptz,              -- nominal time of the fire that made it
    relaunched_from uuid,
    reason text,
    comment text,
    payload json NOT NULL,
    payload_bytes integer NOT NULL GENERATED ALWAYS AS (octet_length(payload::text)) STORED
) WITH (fillfactor = 45);               -- room for the one or two updates of a row's life on its own page (HOT), each of
                                        -- which makes it a little longer: no index knows what they change, but for
                                        -- limited ones and those with a timeout
CREATE INDEX workflows_by_name ON workflows (project, name, id);
CREATE INDEX workflows_deadline ON workflows (deadline) WHERE deadline IS NOT NULL;
CREATE INDEX workflows_limited ON workflows (limited, queued, id) WHERE limited IS NOT NULL;

-- A task of a workflow; its key, queue and neighbours are those of the definition's task at the same position.
-- `waiting` counts the predecessors that are not success. `due` is set exactly while the task may be claimed: ready, or
-- waiting for its next attempt. `held` is true from the claim until the node said that nothing of the attempt is left;
-- `claims` is how such tasks are found. Of what an update changes indexes know `due` alone, so that most updates stay on
-- their page (HOT).
CREATE TABLE tasks (
    workflow_id uuid NOT NULL,
    position integer NOT NULL,
    status status NOT NULL,
    is_hook boolean NOT NULL DEFAULT false,
    held boolean NOT NULL DEFAULT false,
    waiting integer NOT NULL,
    attempt integer NOT NULL DEFAULT 0, -- counts from 1; the claim adds one; the fencing token
    spared integer NOT NULL DEFAULT 0,  -- attempts that do not count against the retry limit
    queue text NOT NULL,
    due timestamptz,
    node_id uuid,                       -- of the last attempt
    claim uuid,                         -- the batch that claimed it last
    created timestamptz NOT NULL,
    updated timestamptz NOT NULL,
    started timestamptz,
    finished timestamptz,
    exit_status integer,
    signal integer,
    peak_memory bigint,                 -- bytes
    cpu_us bigint,
    reason text,
    result json,
    -- Of the text, to know how much will be read before it is.
    result_bytes integer GENERATED ALWAYS AS (octet_length(result::text)) STORED,
    PRIMARY KEY (workflow_id, position)
) WITH (fillfactor = 37);               -- as above: a batch updates all rows of a page at once, and the claim makes them
                                        -- longer by a quarter. With 50 a quarter of them went to other pages, which
                                        -- took more room in all
CREATE INDEX tasks_due ON tasks (queue, due, workflow_id, position) WHERE due IS NOT NULL;

-- What each batch claimed, as long as any of it is held. So the tasks of a node are found, and a batch that is sent again
-- gets the same rows. One small row for up to thousands of tasks; an index on `tasks.held` would cost each of them two
-- entries in two indexes.
CREATE TABLE claims (
    batch uuid PRIMARY KEY,
    node_id uuid NOT NULL,
    workflow_ids uuid[] NOT NULL,       -- task by task …
    positions integer[] NOT NULL,       -- … with this
    held integer NOT NULL               -- how many of them are
) WITH (fillfactor = 50,                -- rows come and go: the few that live must be found among few dead ones
        autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0,
        toast.autovacuum_vacuum_threshold = 1000, toast.autovacuum_vacuum_scale_factor = 0);
ALTER TABLE claims ALTER workflow_ids SET STORAGE EXTERNAL, -- compressing ids is in vain
                   ALTER positions SET STORAGE EXTERNAL;

CREATE VIEW held_tasks AS
SELECT c.batch, c.node_id, t.workflow_id, t.position, t.attempt, t.status, t.is_hook, t.started
  FROM claims c
 CROSS JOIN LATERAL unnest(c.workflow_ids, c.positions) AS u (workflow_id, "position")
 CROSS JOIN LATERAL (SELECT * FROM tasks t
                      WHERE t.workflow_id = u.workflow_id AND t.position = u.position LIMIT 1) t
 WHERE t.held AND t.claim = c.batch;

-- The earlier attempts of a task; the last one is in the task's own row.
CREATE TABLE attempts (
    workflow_id uuid NOT NULL,
    position integer NOT NULL,
    attempt integer NOT NULL,
    node_id uuid,
    started timestamptz,
    finished timestamptz NOT NULL,
    exit_status integer,
    signal integer,
    peak_memory bigint,
    cpu_us bigint,
    reason text,
    result json,
    result_bytes integer GENERATED ALWAYS AS (octet_length(result::text)) STORED,
    PRIMARY KEY (workflow_id, position, attempt)
);

-- `cursor` is the instant up to which every fire is decided; it never moves back. `anchor` is where an interval's grid
-- begins. `trigger` and `timezone` are those of the last daemon that loaded the schedule.
CREATE TABLE schedules (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    project text NOT NULL,
    name text NOT NULL,
    identity text NOT NULL,             -- its name, else its trigger and zone in normal form
    trigger text NOT NULL,
    timezone text NOT NULL,
    catchup text NOT NULL,
    anchor timestamptz NOT NULL,
    cursor timestamptz NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    resumed timestamptz,                -- fires up to this instant were due while it was paused
    comment text,                       -- who paused it, and why
    removed timestamptz,
    UNIQUE (project, name, identity)
);

-- Every due instant of every schedule is covered by exactly one row: its own, or one `collapsed` row that stands
-- for `count` instants from `scheduled` through `until`.
CREATE TABLE fires (
    schedule_id bigint NOT NULL,
    scheduled timestamptz NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('ran', 'overlap', 'late', 'paused', 'collapsed')),
    workflow_id uuid,
    count bigint,
    until timestamptz,
    decided timestamptz NOT NULL,
    PRIMARY KEY (schedule_id, scheduled)
);

-- One row a daemon's life. A node is active or draining while its heartbeat is fresh, then stopped (it said so) or dead.
CREATE TABLE nodes (
    id uuid PRIMARY KEY,
    host text NOT NULL,
    boot_id text NOT NULL,
    state_directory text NOT NULL,
    directory_id uuid,                  -- what tells a state directory from any other, also from a copy of it
    version text NOT NULL,
    queues text[] NOT NULL,             -- {*}: every queue
    slots integer NOT NULL,
    max_input bigint NOT NULL,          -- bytes of `args` and `results` that it takes for one task
    digest text NOT NULL DEFAULT '',    -- of its definition files
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'draining', 'stopped', 'dead')),
    started timestamptz NOT NULL DEFAULT now(),
    heartbeat timestamptz NOT NULL DEFAULT now()
);

-- What a POST with an Idempotency-Key made, so that a repeat gets the same answer.
CREATE TABLE idempotency_keys (
    principal text NOT NULL,            -- the user, '' without login
    key text NOT NULL,
    body bytea NOT NULL,                -- SHA-256 of the request
    workflow_id uuid NOT NULL,
    created timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (principal, key)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created);
