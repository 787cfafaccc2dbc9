"""A node without a daemon: it calls the engine's functions itself, so that a test chooses what happens when.

    node = Node(database)
    node.launch("WIDE")
    node.finish(workflow, (0, 1, False), (1, 1, True))

The definitions must be there: a daemon that was started once leaves them. Answers are dictionaries without what is NULL.
"""

import time
import uuid


class Node:
    def __init__(self, database, slots=9):
        self.database = database
        self.slots = slots
        self.id = str(uuid.uuid4())
        database.sql("SELECT register_node(%s, 'host', 'boot', %s, 'version', '{*}', %s, 1000000)", self.id, self.id, slots)

    def call(self, function, *values):
        with self.database.cursor() as cursor:
            cursor.execute(f"SELECT * FROM {function}", values)
            names = [column.name for column in cursor.description]
            return [{name: value for name, value in zip(names, row) if value is not None} for row in cursor.fetchall()]

    def set_state(self, state):
        self.database.sql("UPDATE nodes SET state = %s WHERE id = %s", state, self.id)

    def launch(self, name, slots=None):
        """The new workflow's id, and the positions that were claimed."""
        created_ms = int(time.time() * 1000)
        workflow = str(uuid.UUID(f"{created_ms:012x}7{uuid.uuid4().hex[:3]}8{uuid.uuid4().hex[:11]}0000"))
        answers = self.call(
            "launch(%s, %s, %s, false, ARRAY [%s]::uuid[], ARRAY [(SELECT max(id) FROM definitions WHERE name = %s)],"
            " ARRAY [to_timestamp(%s / 1000.0)], ARRAY ['{}'::json], '{NULL}', '{NULL}', '{NULL}', '{NULL}', '{NULL}')",
            str(uuid.uuid4()), self.id, self.slots if slots is None else slots, workflow, name, created_ms)
        return workflow, [answer["position"] for answer in answers if answer["kind"] == "claimed"]

    def claim(self):
        """(position, attempt) of each task."""
        answers = self.call("claim(%s, %s, %s, false)", str(uuid.uuid4()), self.id, self.slots)
        return [(answer["position"], answer["attempt"]) for answer in answers if answer["kind"] == "claimed"]

    def finish(self, workflow, *ends, slots=0):
        """Each end is a position, an attempt, and whether it succeeded, in one batch."""
        positions, attempts, successes = map(list, zip(*ends))
        count = len(ends)
        return self.call(
            "finish(%s, %s, %s, false, array_fill(%s::uuid, ARRAY [%s]), %s, %s, %s, array_fill(true, ARRAY [%s]),"
            " array_fill('1'::json, ARRAY [%s]), array_fill(NULL::text, ARRAY [%s]), %s,"
            " array_fill(NULL::integer, ARRAY [%s]), array_fill(NULL::bigint, ARRAY [%s]),"
            " array_fill(NULL::bigint, ARRAY [%s]))",
            str(uuid.uuid4()), self.id, slots, workflow, count, positions, attempts, successes, count, count, count,
            [0 if success else 1 for success in successes], count, count, count)

    def heartbeat(self, workflow=None, *held):
        """Says that it holds these (position, attempt) of the workflow, and no others."""
        positions, attempts = map(list, zip(*held)) if held else ([], [])
        return self.call("heartbeat(%s, 'active', '', %s::uuid[], %s::integer[], %s::integer[])",
                         self.id, [workflow] * len(held), positions, attempts)

    def reap(self, lease="1 h"):
        return self.call("reap(%s, %s)", self.id, lease)
