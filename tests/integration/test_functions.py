"""The engine's SQL functions, called as no daemon does: what comes twice, in parts, too late or too large."""

import datetime
import json
import time
import uuid

import pytest

import harness


class Node:
    """A node that exists in the tables only, and calls the functions by hand."""

    def __init__(self, database, max_input=1000):
        self.database = database
        self.id = str(uuid.uuid4())
        self.last_ms = int(time.time() * 1000) - 10000
        database.sql("SELECT register_node(%s, 'h', 'b', %s, 'v', '{*}', 9, %s)", self.id, self.id, max_input)

    def answers(self, statement, *values):
        """Each as a dictionary of what it carries."""
        rows = self.database.sql(f"SELECT row_to_json(a)::text FROM {statement} a", *values)
        return [{key: value for key, value in json.loads(text).items() if value is not None} for (text,) in rows]

    def kinds(self, statement, *values):
        return [answer["kind"] for answer in self.answers(statement, *values)]

    def new_id(self):
        """A millisecond after the one before."""
        self.last_ms += 1
        return str(uuid.UUID(f"{self.last_ms:012x}70008000000000000000"))

    @staticmethod
    def created(id):
        return datetime.datetime.fromtimestamp(int(id[:13].replace("-", ""), 16) / 1000, datetime.timezone.utc)

    def definition(self, name):
        return self.database.value("SELECT max(id) FROM definitions WHERE fullname = %s", name)

    def launch(self, ids, names, batch=None, slots=0, repeat=False, payload="{}", keys=None):
        n = len(ids)
        return self.answers(
            "launch(%s, %s, %s, %s, %s::uuid[], %s, %s::timestamptz[], array_fill(%s::json, %s),"
            " array_fill(NULL::text, %s), array_fill(NULL::uuid, %s), array_fill(''::text, %s), %s::text[],"
            " array_fill('{}'::text, %s))",
            batch or str(uuid.uuid4()), self.id, slots, repeat, ids, [self.definition(name) for name in names],
            [self.created(id) for id in ids], payload, [n], [n], [n], [n], keys or [None] * n, [n])

    def launch_one(self, name, slots=0, **how):
        id = self.new_id()
        self.launch([id], [name], slots=slots, **how)
        return id

    def claim(self, slots):
        return self.answers("claim(%s, %s, %s, false)", str(uuid.uuid4()), self.id, slots)

    def finish(self, ends, slots=0, result=None):
        """Ends first attempts: (workflow, position, success)."""
        n = len(ends)
        return self.answers(
            "finish(%s, %s, %s, false, %s::uuid[], %s, array_fill(1, %s), %s, array_fill(false, %s),"
            " array_fill(%s::json, %s), array_fill(NULL::text, %s), array_fill(NULL::integer, %s),"
            " array_fill(NULL::integer, %s), array_fill(NULL::bigint, %s), array_fill(NULL::bigint, %s))",
            str(uuid.uuid4()), self.id, slots, [end[0] for end in ends], [end[1] for end in ends], [n],
            [end[2] for end in ends], [n], result, [n], [n], [n], [n], [n], [n])

    def heartbeat(self, ago="0 s", under_way=(), held=()):
        return self.kinds("heartbeat(%s, 'active', '', clock_timestamp() - %s::interval, %s::uuid[], %s::uuid[], %s::integer[],"
                          " %s::integer[])", self.id, ago, list(under_way), [end[0] for end in held],
                          [end[1] for end in held], [1] * len(held))

    def statuses(self, workflow):
        return [status for (status,) in self.database.sql(
            "SELECT status::text FROM tasks WHERE workflow_id = %s ORDER BY position", workflow)]


@pytest.fixture
def node(make, database):
    def make_node(definitions, **how):
        make(definitions).start().stop()
        return Node(database, **how)
    return make_node


NOOP = "tasks: {A: {noop: true}, B: {noop: true}, C: {noop: true}, RUN: {command: ['true']}}\n"


# --- the same batch again ------------------------------------------------------------------------


def test_launch_is_repeated_after_a_part_of_it_was_refused(node, database):
    """Nobody heard of the refusal; by now there is room."""
    node = node(NOOP + "test.ANY: {tasks: [A]}\ntest.ONE: {tasks: [A], concurrency: {overlap: skip}}")
    running = node.launch_one("test.ONE")
    batch, ids = str(uuid.uuid4()), [node.new_id(), node.new_id()]
    first = node.launch(ids, ["test.ANY", "test.ONE"], batch, keys=["k", "l"])
    assert [answer["reason"] for answer in first if answer["kind"] == "refused"] == ["overlap"]
    node.claim(9)
    node.finish([(running, 0, True)])
    assert "refused" not in [answer["kind"] for answer in node.launch(ids, ["test.ANY", "test.ONE"], batch, repeat=True,
                                                                     keys=["k", "l"])]
    assert database.value("SELECT count(*) FROM workflows WHERE id = ANY (%s::uuid[])", ids) == 2
    assert database.value("SELECT count(*) FROM idempotency_keys k JOIN workflows w ON w.id = k.workflow_id") == 2
    node.launch(ids, ["test.ANY", "test.ONE"], batch, repeat=True, keys=["k", "l"])
    assert database.value("SELECT count(*) FROM tasks WHERE workflow_id = ANY (%s::uuid[])", ids) == 2


def test_fires_are_repeated_after_a_part_of_them_came_too_early(node, database):
    node = node(NOOP + "test.HAND: {tasks: [A], periodic: {interval: 1d}}\ntest.CLOCK: {tasks: [A], periodic: {interval: 1d}}")
    hand, clock = (database.value("SELECT id FROM schedules WHERE name = %s", name) for name in ("HAND", "CLOCK"))
    seen, due = database.sql("SELECT cursor, clock_timestamp() + interval '1 s' FROM schedules WHERE id = %s", clock)[0]
    batch, ids = str(uuid.uuid4()), [node.new_id(), node.new_id()]

    def fire(repeat):
        return node.kinds(
            "fire(%s, %s, 0, %s, %s, %s::timestamptz[], %s::timestamptz[], %s, array_fill('{}'::json, '{2}'), '{1, 2}',"
            " %s::timestamptz[], '{ran, ran}', '{NULL, NULL}', '{NULL, NULL}', %s::uuid[], %s::timestamptz[])",
            batch, node.id, repeat, [hand, clock], [None, seen], [seen, due],
            [node.definition("test.HAND"), node.definition("test.CLOCK")], [seen, due], ids, [node.created(id) for id in ids])

    assert fire(False).count("fired") == 1
    harness.eventually(lambda: database.value("SELECT clock_timestamp() > %s", due), "it is due")
    assert fire(True).count("fired") == 2
    assert database.value("SELECT count(*) FROM fires f JOIN workflows w ON w.id = f.workflow_id") == 2


def test_end_that_is_named_twice_lets_no_successor_begin(node, database):
    node = node(NOOP + "test.JOIN: {tasks: [{G: {type: group, tasks: [A, B]}}, C]}")
    workflow = node.launch_one("test.JOIN", slots=9)
    node.finish([(workflow, 0, True), (workflow, 0, True)], slots=9)
    assert node.statuses(workflow) == ["success", "progress", "pending"]
    node.finish([(workflow, 1, True)], slots=9)
    assert node.statuses(workflow) == ["success", "success", "progress"]


# --- too large -----------------------------------------------------------------------------------


WIDE = NOOP + "test.WIDE: {tasks: [{G: {type: group, tasks: [A, B, C]}}, {H: {type: group, tasks: [RUN, RUN]}}]}"


@pytest.mark.parametrize("max_input, given", [(1000, [110, 110]), (100, [None, None])])
def test_siblings_are_given_the_same(node, max_input, given):
    node = node(WIDE, max_input=max_input)
    workflow = node.launch_one("test.WIDE", slots=9)
    result = json.dumps("x" * 18)
    answers = node.finish([(workflow, position, True) for position in range(3)], slots=9, result=result)
    claimed = [answer for answer in answers if answer["kind"] == "claimed"]
    assert [answer["position"] for answer in claimed] == [3, 4]
    assert all((answer.get("args") is None) == (given[0] is None) for answer in claimed)
    if given[0] is None:
        assert all(answer["oversize"] > max_input for answer in claimed)
    else:
        assert all(answer["args"] == [["x" * 18] * 3] for answer in claimed)
        assert all(answer["results"] == {key: "x" * 18 for key in "ABC"} for answer in claimed)


def test_one_answer_carries_so_much_and_the_rest_goes_back(node, database):
    """The first task's input may be as large as it likes; what no longer fits is there for the next claim."""
    node = node(NOOP + "test.MANY: {tasks: [{G: {type: group, tasks: [RUN, RUN, RUN, A]}}]}", max_input=1000)
    workflow = node.launch_one("test.MANY", payload=json.dumps("x" * 600))
    answers = node.claim(9)
    assert [answer["position"] for answer in answers if answer["kind"] == "claimed"] == [3, 0, 1]
    assert [answer["count"] for answer in answers if answer["kind"] == "left"] == [1]
    assert node.statuses(workflow) == ["progress", "progress", "pending", "progress"]
    assert database.sql("SELECT attempt, node_id, held FROM tasks WHERE position = 2") == [(0, None, False)]
    assert database.value("SELECT held FROM claims") == 3
    assert [answer["attempt"] for answer in node.claim(9) if answer["kind"] == "claimed"] == [1]


# --- too late ------------------------------------------------------------------------------------


def test_heartbeat_takes_back_what_was_lost_and_nothing_else(node, database):
    node = node(NOOP + "test.ONE: {tasks: [A]}")
    lost, held, expected = (node.launch_one("test.ONE", slots=1) for _ in range(3))
    database.sql("UPDATE tasks SET started = started - interval '11 s'")
    late = node.launch_one("test.ONE", slots=1)
    batch = database.value("SELECT claim::text FROM tasks WHERE workflow_id = %s", expected)
    known = {"under_way": [batch], "held": [(held, 0)]}
    assert node.heartbeat(ago="1 h", **known) == []  # it was long on its way
    assert node.heartbeat(**known) == ["left"]
    assert [node.statuses(workflow) for workflow in (lost, held, expected, late)] == [
        ["pending"], ["progress"], ["progress"], ["progress"]]
    assert database.sql("SELECT attempt, spared, held FROM tasks WHERE workflow_id = %s", lost) == [(1, 1, False)]


def test_dead_node_is_reaped_in_parts(node, database):
    node = node(NOOP + "test.ONE: {tasks: [A]}")
    for _ in range(3):
        ids = [node.new_id() for _ in range(800)]
        node.launch(ids, ["test.ONE"] * len(ids), slots=len(ids))
    database.sql("UPDATE nodes SET state = 'dead' WHERE id = %s", node.id)
    other = Node(database)
    calls = []
    while not calls or "more" in calls[-1]:
        calls.append(other.kinds("reap(%s, '1 h')", other.id))
        assert len(calls) < 9
    assert [kinds.count("ended") for kinds in calls] == [1600, 800]
    assert database.sql("SELECT DISTINCT status::text, reason FROM tasks") == [("error", "node_lost")]
    assert database.value("SELECT count(*) FROM claims") == 0


def test_clock_that_was_set_back(node, database):
    """By the old clock all this is of an hour to come."""
    node = node(NOOP + "test.ONE: {tasks: [A], timeout: 60s}\ntest.AGAIN: {tasks: [{A: {retry: {limit: 1, interval: 30s}}}]}")
    ready, again = node.launch_one("test.ONE"), node.launch_one("test.AGAIN")
    database.sql("UPDATE tasks SET due = due + interval '1 h', updated = updated + interval '1 h'")
    database.sql("UPDATE tasks SET due = due + interval '30 s' WHERE workflow_id = %s", again)
    database.sql("UPDATE workflows SET deadline = deadline + interval '1 h'")
    database.sql("UPDATE nodes SET heartbeat = heartbeat + interval '1 h'")
    assert node.claim(9) == []
    for _ in range(2):
        database.sql("SELECT set_clock_back()")
    assert [answer["workflow_id"] for answer in node.claim(9)] == [ready]
    assert database.value("SELECT due BETWEEN now() + interval '20 s' AND now() + interval '30 s' FROM tasks"
                          " WHERE workflow_id = %s", again)
    assert database.value("SELECT deadline <= now() + interval '60 s' FROM workflows WHERE id = %s", ready)
    assert database.value("SELECT bool_and(heartbeat <= now()) FROM nodes")


@pytest.mark.parametrize("damage, why", [
    ("UPDATE tasks SET due = NULL WHERE position = 0", "ready, and not due"),
    ("UPDATE tasks SET status = 'success', finished = now(), due = NULL WHERE position = 0", "waits for a task"),
    ("UPDATE tasks SET status = 'success', finished = now(), due = NULL", "all of its tasks are final"),
    ("UPDATE tasks SET status = 'progress', due = NULL WHERE position = 0", "running, and held by nobody"),
    ("UPDATE workflows SET queued = true, limited = 'test.TWO', updated = now() - interval '1 h'", "queued, and"),
])
def test_what_is_stuck_is_told(node, database, damage, why):
    node = node(NOOP + "test.TWO: {tasks: [A, B], concurrency: {}}")
    node.launch_one("test.TWO")
    assert database.sql("SELECT * FROM stuck") == []
    with database.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(damage)
        cursor.execute("SELECT why FROM stuck")
        assert any(found.startswith(why) for (found,) in cursor.fetchall())
        cursor.execute("ROLLBACK")


def test_queues_that_nobody_serves_are_told(node, database):
    node = node(NOOP + "test.ONE: {tasks: [A], queue: elsewhere}")
    node.launch_one("test.ONE")
    assert database.sql("SELECT queue, tasks FROM unserved") == []
    database.sql("UPDATE nodes SET queues = '{here}'")
    assert database.sql("SELECT queue, tasks FROM unserved") == [("elsewhere", 1)]


# --- making room ---------------------------------------------------------------------------------


def test_room_is_there_when_the_processes_are_gone(node, database):
    node = node(NOOP + "test.ONE: {tasks: [{G: {type: group, tasks: [A, B]}}], concurrency: {}}")
    first = node.launch_one("test.ONE")
    node.claim(9)
    second = node.launch_one("test.ONE")
    assert "room" not in node.kinds("cancel(%s::uuid[], 'canceled_by_user')", [first])
    node.database.sql("SELECT admit('test', 'ONE')")
    assert "room" not in [answer["kind"] for answer in node.finish([(first, 0, False)])]
    node.database.sql("SELECT admit('test', 'ONE')")
    assert database.value("SELECT queued FROM workflows WHERE id = %s", second)
    assert "room" in [answer["kind"] for answer in node.finish([(first, 1, False)])]
    node.database.sql("SELECT admit('test', 'ONE')")
    assert not database.value("SELECT queued FROM workflows WHERE id = %s", second)
    assert database.value("SELECT limited IS NULL FROM workflows WHERE id = %s", first)


def test_retention_takes_so_many_rows_at_a_time(node, database):
    node = node(NOOP + "test.FOUR: {tasks: [A, B, C, A], retention: {offset: 1}}")
    for _ in range(4):
        workflow = node.launch_one("test.FOUR", slots=1)
        for position in range(4):
            node.finish([(workflow, position, True)], slots=1)
    assert database.value("SELECT clear_workflows(-1, 3)") == 15  # that many are to go; one instance is always taken
    assert database.value("SELECT count(*) FROM workflows") == 3
    assert database.value("SELECT clear_workflows(-1, 12)") == 10
    assert database.value("SELECT count(*) FROM tasks") == 4
    assert not database.value("SELECT clear_workflows(-1, 12)")
