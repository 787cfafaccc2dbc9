"""A node without a daemon: it calls the engine's functions itself, so that a test chooses what happens when.

    node = Node(database)
    workflow, claimed = node.launch("WIDE")
    node.finish(workflow, (0, 1, False), (1, 1, True))

The definitions must be there: a daemon that was started once leaves them. Answers are dictionaries without what is NULL.
"""

import datetime
import time
import uuid


def new_batch():
    return str(uuid.uuid4())


class Node:
    def __init__(self, database, slots=9, max_input=1000000, directory=None, boot="boot"):
        """`directory` is the id of the node whose state directory it has; none: one of its own."""
        self.database = database
        self.slots = slots
        self.id = str(uuid.uuid4())
        database.sql("SET lock_timeout = '20 s'")  # what waits for the test's own transaction would wait for ever
        self.last_ms = int(time.time() * 1000) - 10000
        directory = directory or self.id
        database.sql("SELECT register_node(%s, 'host', %s, %s, 'version', '{*}', %s, %s, %s, '1 min')", self.id, boot,
                     directory, slots, max_input, directory)

    def call(self, function, *values):
        with self.database.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {function}", values)
            names = [column.name for column in cursor.description]
            rows = [{name: value for name, value in zip(names, row) if value is not None} for row in cursor.fetchall()]
        return [answer for row in rows for answer in self.answers(row)]

    @staticmethod
    def answers(row):
        """Those that the row stands for."""
        if "workflow_ids" not in row:
            return [row]
        workflows = row.pop("workflow_ids").strip("{}").split(",")
        places = zip(row.pop("positions", []), row.pop("attempts", []))
        return [row | {"workflow_id": workflow} | dict(zip(("position", "attempt"), next(places, ())))
                for workflow in workflows]

    def set_state(self, state):
        self.database.sql("UPDATE nodes SET state = %s WHERE id = %s", state, self.id)

    def new_id(self):
        """A millisecond after the one before, in the past."""
        self.last_ms += 1
        return str(uuid.UUID(f"{self.last_ms:012x}70008{uuid.uuid4().hex[:11]}0000"))

    @staticmethod
    def created(id):
        return datetime.datetime.fromtimestamp(int(id[:13].replace("-", ""), 16) / 1000, datetime.timezone.utc)

    def definition(self, name):
        return self.database.value("SELECT max(id) FROM definitions WHERE name = %s", name)

    def launch_batch(self, ids, names, batch=None, slots=0, repeat=False, payload="{}", keys=None):
        """All answers. Every instance has the same payload; `keys` are their idempotency keys."""
        n = len(ids)
        definitions = {name: self.definition(name) for name in set(names)}
        return self.call(
            "launch(%s, %s, %s, %s, %s::uuid[], %s, %s::timestamptz[], array_fill(%s::json, ARRAY [%s]),"
            " array_fill(NULL::text, ARRAY [%s]), array_fill(NULL::uuid, ARRAY [%s]), array_fill(''::text, ARRAY [%s]),"
            " %s::text[], array_fill('{}'::text, ARRAY [%s]))",
            batch or new_batch(), self.id, slots, repeat, ids, [definitions[name] for name in names],
            [self.created(id) for id in ids], payload, n, n, n, n, keys or [None] * n, n)

    def launch(self, name, slots=None, **how):
        """The new workflow's id, and the positions that were claimed."""
        workflow = self.new_id()
        answers = self.launch_batch([workflow], [name], slots=self.slots if slots is None else slots, **how)
        return workflow, [answer["position"] for answer in answers if answer["kind"] == "claimed"]

    def claim_answers(self):
        return self.call("claim(%s, %s, %s, false)", new_batch(), self.id, self.slots)

    def claim(self):
        """(position, attempt) of each task."""
        return [(answer["position"], answer["attempt"]) for answer in self.claim_answers() if answer["kind"] == "claimed"]

    def cancel(self, workflow):
        return self.call("cancel(ARRAY [%s]::uuid[], 'canceled_by_user')", workflow)

    def finish(self, workflow, *ends, slots=0, result="1"):
        """Each end is a position, an attempt, and whether it succeeded, in one batch."""
        positions, attempts, successes = map(list, zip(*ends))
        count = len(ends)
        return self.call(
            "finish(%s, %s, %s, false, array_fill(%s::uuid, ARRAY [%s]), %s, %s, %s, array_fill(true, ARRAY [%s]),"
            " array_fill(%s::json, ARRAY [%s]), array_fill(NULL::text, ARRAY [%s]), %s,"
            " array_fill(NULL::integer, ARRAY [%s]), array_fill(NULL::bigint, ARRAY [%s]),"
            " array_fill(NULL::bigint, ARRAY [%s]))",
            new_batch(), self.id, slots, workflow, count, positions, attempts, successes, count, result, count, count,
            [0 if success else 1 for success in successes], count, count, count)

    def finish_all(self, workflows):
        """The first attempt of each one's first task has succeeded."""
        n = len(workflows)
        return self.call(
            "finish(%s, %s, 0, false, %s::uuid[], array_fill(0, ARRAY [%s]), array_fill(1, ARRAY [%s]),"
            " array_fill(true, ARRAY [%s]), array_fill(true, ARRAY [%s]), array_fill('1'::json, ARRAY [%s]),"
            " NULL, NULL, NULL, NULL, NULL)", new_batch(), self.id, workflows, n, n, n, n, n)

    def heartbeat(self, workflow=None, *held, ago="0 s", under_way=()):
        """Says that it holds these (position, attempt) of the workflow, and no others; it knew that so long ago."""
        positions, attempts = map(list, zip(*held)) if held else ([], [])
        return self.call("heartbeat(%s, 'active', '', clock_timestamp() - %s::interval, %s::uuid[], %s::uuid[],"
                         " %s::integer[], %s::integer[])",
                         self.id, ago, list(under_way), [workflow] * len(held), positions, attempts)

    def reap(self, lease="1 h", ago="0 s", limit=1000):
        """Sent so long ago."""
        return self.call("reap(%s, %s, clock_timestamp() - %s::interval, %s)", self.id, lease, ago, limit)
