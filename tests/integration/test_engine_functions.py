"""The engine's functions, called as no daemon does at just that moment: what comes twice, in parts, too late, too large."""

import json
import threading

import pytest

import harness
from sql_node import Node, new_batch

DEFINITIONS = """
tasks:
  RUN: {noop: true}
  AGAIN: {script: exit 1, retry: {limit: 2, interval: 1s}}
  GROWING: {script: exit 1, retry: {limit: 6, interval: 1m, backoff: 3, max_interval: 20m}}
test.WIDE: {tasks: [{G: {type: group, tasks: [RUN, RUN, RUN]}}]}
test.JOIN:
  tasks:
    - {G: {type: group, tasks: [{A: {task: RUN}}, {B: {task: RUN}}]}}
    - {C: {task: RUN}}
    - {D: {task: RUN}}
test.CHAIN: {tasks: [{A: {task: RUN}}, {B: {task: RUN}}]}
test.AGAIN: {tasks: [AGAIN]}
test.GROWING: {tasks: [GROWING]}
test.ONE: {tasks: [RUN]}
test.TIMED: {tasks: [RUN], timeout: 60s}
test.LATER: {tasks: [{RUN: {retry: {limit: 1, interval: 30s}}}]}
test.ELSEWHERE: {tasks: [RUN], queue: elsewhere}
test.SKIPPING: {tasks: [RUN], concurrency: {overlap: skip}}
test.EMPTY: {tasks: [], concurrency: {}, hooks: {success: RUN}}
test.WAITING: {tasks: [{G: {type: group, tasks: [RUN, RUN]}}], concurrency: {}}
test.KEPT: {tasks: [RUN, RUN, RUN, RUN], retention: {offset: 1}}
test.MANY: {tasks: [{G: {type: group, tasks: [%s]}}]}
test.SIBLINGS:
  tasks:
    - {G: {type: group, tasks: [{A: {task: RUN}}, {B: {task: RUN}}, {C: {task: RUN}}]}}
    - {H: {type: group, tasks: [AGAIN, AGAIN]}}
test.PROCESSES: {tasks: [{G: {type: group, tasks: [AGAIN, AGAIN, AGAIN, RUN]}}]}
test.HAND: {tasks: [RUN], periodic: {interval: 1d}}
test.CLOCK: {tasks: [RUN], periodic: {interval: 1d}}
test.TWICE: {tasks: [RUN], periodic: [{interval: 1d}, {interval: 2d}]}
""" % ", ".join(["RUN"] * 30)


@pytest.fixture(scope="module")
def template(postgres):
    return harness.create_template(postgres, DEFINITIONS)


@pytest.fixture
def database(postgres, template):
    """In the end its tables are in order."""
    database = postgres.create_database(f"TEMPLATE {template.name}")
    yield database
    assert database.problems() == []
    database.drop()


@pytest.fixture
def node(database):
    """What it and others hold in the end is lost with them."""
    yield Node(database)
    database.sql("UPDATE nodes SET state = 'stopped' WHERE state <> 'dead'")
    last = Node(database)
    last.reap()
    last.set_state("stopped")


def kinds(answers):
    return [answer["kind"] for answer in answers]


def statuses(database):
    """Of all tasks; and of the workflow, with its reason."""
    return ([status for (status,) in database.sql("SELECT status::text FROM tasks ORDER BY position")],
            *database.sql("SELECT status::text, reason FROM workflows"))


# --- ends -------------------------------------------------------------------------------------


def test_a_task_closes_its_workflow_that_all_others_come_before(database):
    graphs = {}
    for name, position, role, previous, closes in database.sql(
            "SELECT d.name, t.position, t.role, t.previous, t.closes FROM definition_tasks t"
            " JOIN definitions d ON d.id = t.definition_id ORDER BY 1, 2"):
        graphs.setdefault(name, []).append((position, role, set(previous), closes))
    assert {"CHAIN", "WIDE", "JOIN", "EMPTY", "ONE"} <= set(graphs)
    for name, tasks in graphs.items():
        before = {}
        for position, role, previous, closes in tasks:
            before[position] = previous.union(*(before[other] for other in previous))
            others = {other for other, of_role, *_ in tasks if of_role == "task"} - {position}
            assert closes == (role == "task" and before[position] == others), (name, position)


def test_end_that_is_named_three_times_counts_once(node, database):
    """Else the batch that claimed it would be forgotten, with the tasks that are still held."""
    workflow, claimed = node.launch("WIDE")
    assert claimed == [0, 1, 2]
    node.finish(workflow, (0, 1, True), (0, 1, True), (0, 1, True))
    assert database.value("SELECT held FROM claims") == 2
    other = Node(database)
    node.set_state("dead")
    other.reap()
    assert statuses(database) == (["success", "error", "error"], ("error", "node_lost"))
    assert database.value("SELECT count(*) FROM claims") == 0


@pytest.mark.parametrize("failed, succeeded", [(0, 1), (1, 0)])
def test_failure_and_success_before_one_join_in_one_batch(node, database, failed, succeeded):
    """What is downstream is canceled, whichever of them comes first, and the success does not count it down."""
    workflow, claimed = node.launch("JOIN")
    assert claimed == [0, 1]
    answers = node.finish(workflow, (failed, 1, False), (succeeded, 1, True), slots=9)
    assert [answer["kind"] for answer in answers] == ["ended"]
    tasks, ended = statuses(database)
    assert (tasks[failed], tasks[succeeded], tasks[2:]) == ("error", "success", ["canceled", "canceled"])
    assert ended == ("error", None)
    assert node.claim() == []


@pytest.mark.parametrize("first", [True, False])
def test_attempt_that_ends_in_two_ways_has_ended_in_one(node, database, first):
    workflow, _ = node.launch("AGAIN")
    node.finish(workflow, (0, 1, first), (0, 1, not first))
    status, attempts = database.sql("SELECT t.status::text, (SELECT count(*) FROM attempts) FROM tasks t")[0]
    assert (status, attempts) in (("success", 0), ("pending", 1))


def test_stale_attempt_counts_for_nothing(node, database):
    """An earlier attempt's end, another node's, one that was given already: each leaves everything as it is."""
    workflow, _ = node.launch("AGAIN")
    node.finish(workflow, (0, 1, False))
    database.sql("UPDATE tasks SET due = now()")
    assert node.claim() == [(0, 2)]
    before = database.sql("SELECT * FROM tasks"), database.sql("SELECT * FROM attempts"), \
        database.sql("SELECT * FROM workflows")
    stranger = Node(database)
    for who, attempt in ((node, 1), (node, 3), (stranger, 2)):
        for success in (True, False):
            assert who.finish(workflow, (0, attempt, success), slots=9) == []
    assert before == (database.sql("SELECT * FROM tasks"), database.sql("SELECT * FROM attempts"),
                      database.sql("SELECT * FROM workflows"))
    node.finish(workflow, (0, 2, True))
    node.finish(workflow, (0, 2, False))
    assert statuses(database) == (["success"], ("success", None))


# --- claims -----------------------------------------------------------------------------------


def test_claim_passes_over_what_another_transaction_holds(node, database):
    """It takes the rest and says so; when that one is done it takes what is left."""
    held, _ = node.launch("CHAIN", slots=0)
    node.launch("AGAIN", slots=0)
    with database.server.connect(database.name) as other, other.cursor() as cursor:
        cursor.execute("SELECT 1 FROM workflows WHERE id = %s FOR UPDATE", (held,))
        assert node.claim() == [(0, 1)]
        assert database.value("SELECT status::text FROM tasks WHERE workflow_id = %s AND position = 0", held) == "pending"
        assert [answer["kind"] for answer in node.claim_answers()] == ["skipped"]
    other.close()
    assert node.claim() == [(0, 1)]
    assert node.claim_answers() == []


def test_claim_takes_the_oldest_first(node, database):
    """Over all workflows, and no more than there are slots."""
    node.slots = 2
    workflows = [node.launch(name, slots=0)[0] for name in ("CHAIN", "WIDE", "AGAIN")]
    database.sql("UPDATE tasks SET due = due - interval '1 s' WHERE workflow_id = %s", workflows[2])
    taken = []
    while answers := node.claim_answers():
        taken += [(workflows.index(answer["workflow_id"]), answer["position"]) for answer in answers]
    assert set(taken[:2]) == {(0, 0), (2, 0)} and sorted(taken[2:]) == [(1, 0), (1, 1), (1, 2)]


def test_claims_forget_what_is_not_held(node, database):
    """Once most of a large batch has ended; what is left is found as before."""
    ids = [node.new_id() for _ in range(800)]
    batch = new_batch()
    node.launch_batch(ids, ["ONE"] * len(ids), batch, slots=len(ids))

    def end(ids):
        node.finish_all(ids)
        return database.sql("SELECT held, cardinality(workflow_ids), cardinality(positions) FROM claims")

    assert end(ids[:500]) == [(300, 800, 800)]
    assert end(ids[500:700]) == [(100, 100, 100)]
    assert end(ids[700:750]) == [(50, 100, 100)]
    repeated = node.launch_batch(ids, ["ONE"] * len(ids), batch, slots=len(ids), repeat=True)
    assert sorted(answer["workflow_id"] for answer in repeated) == sorted(ids[750:])
    assert end(ids[750:]) == []


# --- ends of what is over ---------------------------------------------------------------------


@pytest.mark.parametrize("success", [True, False])
def test_cancel_leaves_what_has_ended(node, database, success):
    workflow, _ = node.launch("WIDE")
    node.finish(workflow, (0, 1, success), (1, 1, True), (2, 1, True))
    before = statuses(database)
    assert [answer["kind"] for answer in node.cancel(workflow)] == ["final"]
    assert statuses(database) == before


def test_cancel_wins_over_an_end_that_comes_later(node, database):
    workflow, _ = node.launch("CHAIN")
    assert sorted(answer["kind"] for answer in node.cancel(workflow)) == ["canceled", "stop"]
    assert node.finish(workflow, (0, 1, True), slots=9) == []
    assert statuses(database) == (["canceled", "canceled"], ("canceled", "canceled_by_user"))
    assert database.value("SELECT count(*) FROM claims") == 0  # the hold is given back
    assert [answer["kind"] for answer in node.cancel(workflow)] == ["canceled"]


# --- further attempts -------------------------------------------------------------------------


def test_interval_grows_up_to_its_bound(node, database):
    workflow, _ = node.launch("GROWING")
    delays = []
    for attempt in range(1, 7):
        node.finish(workflow, (0, attempt, False))
        delays.append(database.value("SELECT extract(epoch FROM due - updated)::float FROM tasks"))
        assert node.claim() == []  # not before it is due
        database.sql("UPDATE tasks SET due = now()")
        assert node.claim() == [(0, attempt + 1)]
    assert delays == [60, 180, 540, 1200, 1200, 1200]
    node.finish(workflow, (0, 7, False))
    assert statuses(database) == (["error"], ("error", None))


def lose_claim(node, database):
    """The claim's answer was lost, and some time has gone by: the node knows nothing of what it holds."""
    database.sql("UPDATE tasks SET started = started - interval '11 s' WHERE status = 'progress'")
    return [answer["kind"] for answer in node.heartbeat()]


def test_attempt_that_a_heartbeat_gives_back_does_not_count(node, database):
    """Neither against the limit nor for the interval."""
    workflow, _ = node.launch("AGAIN")
    assert lose_claim(node, database) == ["left"]
    assert database.sql("SELECT status::text, attempt, spared, held, due <= now() FROM tasks") == [
        ("pending", 1, 1, False, True)]
    assert database.value("SELECT count(*) FROM claims") == 0
    delays = []
    for attempt in (2, 3):
        assert node.claim() == [(0, attempt)]
        node.finish(workflow, (0, attempt, False))
        delays.append(database.value("SELECT extract(epoch FROM due - updated)::float FROM tasks"))
        database.sql("UPDATE tasks SET due = now()")
    assert delays == [1, 1]
    assert node.claim() == [(0, 4)]
    assert lose_claim(node, database) == ["left"]
    assert node.claim() == [(0, 5)]
    node.finish(workflow, (0, 5, False))  # the third one that failed
    assert statuses(database) == (["error"], ("error", None))
    assert database.sql("SELECT attempt FROM attempts ORDER BY 1") == [(2,), (3,)]


def test_heartbeat_leaves_what_is_held_or_new(node, database):
    workflow, claimed = node.launch("WIDE")
    assert claimed == [0, 1, 2]
    assert node.heartbeat() == []  # claimed a moment ago: the answer may be on its way
    database.sql("UPDATE tasks SET started = started - interval '11 s' WHERE position < 2")
    assert [answer["kind"] for answer in node.heartbeat(workflow, (0, 1))] == ["left"]
    assert database.sql("SELECT status::text, spared FROM tasks ORDER BY position") == [
        ("progress", 0), ("pending", 1), ("progress", 0)]
    assert node.claim() == [(1, 2)]
    assert [(answer["kind"], answer["position"], answer["attempt"])
            for answer in node.heartbeat(workflow, (0, 1), (1, 1), (1, 2), (2, 1))] == [("lost", 1, 1)]
    node.finish(workflow, (0, 1, True), (1, 2, True), (2, 1, True))


# --- in parts ---------------------------------------------------------------------------------


def test_runs_expire_in_parts(node, database):
    for _ in range(3):
        node.launch("TIMED")
    database.sql("UPDATE workflows SET deadline = now()")
    assert [kinds(node.call("expire(2)")).count("ended") for _ in range(3)] == [2, 1, 0]


def test_instances_are_admitted_in_parts(node, database):
    """Their limit was removed while very many were queued: each call says that there are others."""
    for _ in range(3):
        ids = [node.new_id() for _ in range(700)]
        node.launch_batch(ids, ["WAITING"] * len(ids))
    database.sql("UPDATE definitions SET concurrency = NULL WHERE name = 'WAITING'")

    def admit():
        room = "room" in kinds(node.call("admit('test', 'WAITING')"))
        return room, database.value("SELECT count(*) FROM workflows WHERE queued")

    assert database.value("SELECT count(*) FROM workflows WHERE queued") == 2099
    assert [admit() for _ in range(3)] == [(True, 1099), (True, 99), (False, 0)]


# --- nodes ------------------------------------------------------------------------------------


def test_draining_node_claims_nothing(node, database):
    """By none of the calls that may claim; what it runs it may end, and another node takes the rest."""
    workflow, _ = node.launch("CHAIN")
    node.set_state("draining")
    wide, claimed = node.launch("WIDE")
    assert claimed == [] and node.claim() == []
    answers = node.finish(workflow, (0, 1, True), slots=9)
    assert [answer["kind"] for answer in answers] == ["left"]
    assert node.claim() == []
    other = Node(database)
    assert sorted(other.claim()) == [(0, 1), (1, 1), (1, 1), (2, 1)]
    other.finish(workflow, (1, 1, True))
    other.finish(wide, (0, 1, True), (1, 1, True), (2, 1, True))



def test_only_overdue_nodes_are_reaped(node, database):
    workflow, _ = node.launch("CHAIN")
    other = Node(database)
    assert other.reap("30 s") == []
    database.sql("UPDATE nodes SET heartbeat = now() - interval '29 s' WHERE id = %s", node.id)
    assert other.reap("30 s") == []
    database.sql("UPDATE nodes SET heartbeat = now() - interval '31 s' WHERE id = %s", node.id)
    assert node.reap("30 s") == []  # never itself
    assert other.reap("30 s", ago="2 min") == []  # the clock was set forward meanwhile
    assert [answer["kind"] for answer in other.reap("30 s")] == ["dead", "ended"]
    assert statuses(database) == (["error", "canceled"], ("error", "node_lost"))
    assert [answer["kind"] for answer in node.heartbeat(workflow, (0, 1))] == ["dead", "lost"]


def test_node_that_was_cleared_away_is_reaped(node, database):
    gone = Node(database)
    workflow, _ = gone.launch("ONE")
    database.sql("DELETE FROM nodes WHERE id = %s", gone.id)
    assert "ended" in kinds(node.reap())
    assert statuses(database) == (["error"], ("error", "node_lost"))


def test_dead_node_is_reaped_in_parts(node, database):
    for _ in range(3):
        ids = [node.new_id() for _ in range(800)]
        node.launch_batch(ids, ["ONE"] * len(ids), slots=len(ids))
    node.set_state("dead")
    other = Node(database)
    calls = []
    while not calls or "more" in calls[-1]:
        calls.append(kinds(other.reap(limit=900)))
        assert len(calls) < 9
    assert [call.count("ended") for call in calls] == [900, 900, 600]
    assert database.sql("SELECT DISTINCT status::text, reason FROM tasks") == [("error", "node_lost")]
    assert database.value("SELECT count(*) FROM claims") == 0


# --- the same batch again ---------------------------------------------------------------------


def test_launch_is_repeated_after_a_part_of_it_was_refused(node, database):
    """Nobody heard of the refusal; by now there is room."""
    running, _ = node.launch("SKIPPING", slots=0)
    batch, ids = new_batch(), [node.new_id(), node.new_id()]
    first = node.launch_batch(ids, ["ONE", "SKIPPING"], batch, keys=["k", "l"])
    assert [answer["reason"] for answer in first if answer["kind"] == "refused"] == ["overlap"]
    node.claim()
    node.finish(running, (0, 1, True))
    assert "refused" not in kinds(node.launch_batch(ids, ["ONE", "SKIPPING"], batch, repeat=True, keys=["k", "l"]))
    assert database.value("SELECT count(*) FROM workflows WHERE id = ANY (%s::uuid[])", ids) == 2
    assert database.value("SELECT count(*) FROM idempotency_keys k JOIN workflows w ON w.id = k.workflow_id") == 2
    node.launch_batch(ids, ["ONE", "SKIPPING"], batch, repeat=True, keys=["k", "l"])
    assert database.value("SELECT count(*) FROM tasks WHERE workflow_id = ANY (%s::uuid[])", ids) == 2


def test_fires_are_repeated_after_a_part_of_them_came_too_early(node, database):
    hand, clock = (database.value("SELECT id FROM schedules WHERE name = %s", name) for name in ("HAND", "CLOCK"))
    seen, due = database.sql("SELECT cursor, clock_timestamp() + interval '1 s' FROM schedules WHERE id = %s", clock)[0]
    batch, ids = new_batch(), [node.new_id(), node.new_id()]

    def fire(repeat):
        return kinds(node.call(
            "fire(%s, %s, 0, %s, %s, %s::timestamptz[], %s::timestamptz[], %s, array_fill('{}'::json, '{2}'), '{1, 2}',"
            " %s::timestamptz[], %s::timestamptz[], '{ran, ran}', '{NULL, NULL}', '{NULL, NULL}', %s::uuid[],"
            " %s::timestamptz[])",
            batch, node.id, repeat, [hand, clock], [None, seen], [seen, due],
            [node.definition("HAND"), node.definition("CLOCK")], [seen, due], [seen, due], ids,
            [node.created(id) for id in ids]))

    assert fire(False).count("fired") == 1
    harness.eventually(lambda: database.value("SELECT clock_timestamp() > %s", due), "it is due")
    assert fire(True).count("fired") == 2
    assert database.value("SELECT count(*) FROM fires f JOIN workflows w ON w.id = f.workflow_id") == 2


def test_end_that_is_named_twice_lets_no_successor_begin(node, database):
    workflow, _ = node.launch("JOIN")
    node.finish(workflow, (0, 1, True), (0, 1, True), slots=9)
    assert statuses(database)[0] == ["success", "progress", "pending", "pending"]
    node.finish(workflow, (1, 1, True), slots=9)
    assert statuses(database)[0] == ["success", "success", "progress", "pending"]


# --- pausing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("delay, outcome", [("0 s", "paused"), ("59 min", "paused"), ("61 min", "ran")])
def test_fire_runs_that_becomes_due_after_the_schedule_was_resumed(node, database, delay, outcome):
    """Its nominal time was two hours ago, the end of the pause one; `jitter` is between the two."""
    database.sql("UPDATE schedules SET cursor = now() - interval '3 h', resumed = now() - interval '1 h'")
    schedule, seen = database.sql("SELECT id, cursor FROM schedules WHERE name = 'CLOCK'")[0]
    scheduled, due = database.sql("SELECT %s + interval '1 h', %s + interval '1 h' + %s::interval", seen, seen, delay)[0]
    id = node.new_id()
    answers = node.call(
        "fire(%s, %s, 0, false, %s, %s::timestamptz[], %s::timestamptz[], %s, '{1}'::json[], '{1}', %s::timestamptz[],"
        " %s::timestamptz[], '{ran}', '{NULL}', '{NULL}', %s::uuid[], %s::timestamptz[])",
        new_batch(), node.id, [schedule], [seen], [scheduled], [node.definition("CLOCK")], [scheduled], [due], [id],
        [node.created(id)])
    assert [answer["reason"] for answer in answers if answer["kind"] == "fired"] == [outcome]


def test_schedules_are_paused_in_the_order_in_which_they_fire(postgres, database):
    """By id, however the rows lie: else a pause and a fire could wait for each other."""
    ids = [id for (id,) in database.sql("SELECT id FROM schedules WHERE name = 'TWICE' ORDER BY id")]
    database.sql("UPDATE schedules SET comment = 'lies last now' WHERE id = %s", ids[0])
    holder = postgres.connect(database.name)
    holder.cursor().execute("SELECT 1 FROM schedules WHERE id = %s FOR UPDATE", [ids[0]])
    pause = threading.Thread(target=pause_all, args=(postgres, database))
    pause.start()
    harness.eventually(lambda: database.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
                                            " AND datname = current_database()"), "it waits")
    database.sql("SELECT 1 FROM schedules WHERE id = %s FOR UPDATE NOWAIT", ids[1])
    holder.rollback()
    pause.join()
    assert database.sql("SELECT paused FROM schedules WHERE name = 'TWICE'") == [(True,), (True,)]


def pause_all(postgres, database):
    with postgres.connect(database.name) as connection:
        connection.cursor().execute("SELECT pause_schedules(NULL, 'test.TWICE', true, NULL)")
    connection.close()


# --- too large --------------------------------------------------------------------------------


@pytest.mark.parametrize("max_input, fits", [(1000, True), (100, False)])
def test_siblings_are_given_the_same(database, max_input, fits):
    node = Node(database, max_input=max_input)
    workflow, _ = node.launch("SIBLINGS")
    ends = [(position, 1, True) for position in range(3)]
    claimed = node.finish(workflow, *ends, slots=9, result=json.dumps("x" * 18))
    assert [(answer["kind"], answer["position"]) for answer in claimed] == [("claimed", 3), ("claimed", 4)]
    if fits:
        assert all(answer["args"] == [["x" * 18] * 3] for answer in claimed)
        assert all(answer["results"] == {key: "x" * 18 for key in "ABC"} for answer in claimed)
    else:
        assert all("args" not in answer and answer["oversize"] > max_input for answer in claimed)
    node.set_state("dead")


def test_one_answer_carries_so_much_and_the_rest_goes_back(database):
    """The first task's input may be as large as it likes; what no longer fits is there for the next claim."""
    node = Node(database, max_input=1000)
    node.launch("PROCESSES", slots=0, payload=json.dumps("x" * 600))
    answers = node.claim_answers()
    assert [answer["position"] for answer in answers if answer["kind"] == "claimed"] == [3, 0, 1]
    assert [answer["count"] for answer in answers if answer["kind"] == "left"] == [1]
    assert statuses(database)[0] == ["progress", "progress", "pending", "progress"]
    assert database.sql("SELECT attempt, node_id, held FROM tasks WHERE position = 2") == [(0, None, False)]
    assert database.value("SELECT held FROM claims") == 3
    assert node.claim() == [(2, 1)]
    node.set_state("dead")


def test_workflow_that_is_locked_keeps_no_other_back(postgres, database):
    node = Node(database, slots=1)
    first, second = (node.launch("ONE", slots=0)[0] for _ in range(2))
    other = postgres.connect(database.name)
    other.cursor().execute("SELECT 1 FROM workflows WHERE id = %s FOR UPDATE", [first])
    assert [answer["workflow_id"] for answer in node.claim_answers()] == [second]
    assert kinds(node.claim_answers()) == ["skipped"]
    other.rollback()
    assert [answer["workflow_id"] for answer in node.claim_answers()] == [first]
    node.set_state("dead")


# --- too late ---------------------------------------------------------------------------------


def test_many_tasks_of_a_workflow_that_is_locked_keep_no_other_back(postgres, node, database):
    locked, _ = node.launch("MANY", slots=0)
    other, _ = node.launch("ONE", slots=0)
    connection = postgres.connect(database.name)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM workflows WHERE id = %s FOR UPDATE", [locked])
        answers = node.claim_answers()
    connection.close()
    assert sorted(kinds(answers)) == ["claimed", "skipped"]
    assert [answer["workflow_id"] for answer in answers if answer["kind"] == "claimed"] == [other]


def test_heartbeat_knows_what_it_knew_when_it_was_sent(node, database):
    lost, held, expected = (node.launch("ONE")[0] for _ in range(3))
    database.sql("UPDATE tasks SET started = started - interval '11 s'")
    late, _ = node.launch("ONE")
    batch = database.value("SELECT claim::text FROM tasks WHERE workflow_id = %s", expected)
    assert node.heartbeat(held, (0, 1), ago="1 h", under_way=[batch]) == []  # it was long on its way
    assert kinds(node.heartbeat(held, (0, 1), under_way=[batch])) == ["left"]
    assert dict(database.sql("SELECT workflow_id::text, status::text FROM tasks")) == {
        lost: "pending", held: "progress", expected: "progress", late: "progress"}


def test_clock_that_was_set_back(node, database):
    """By the old clock all this is of an hour to come."""
    ready, _ = node.launch("TIMED", slots=0)
    again, _ = node.launch("LATER", slots=0)
    database.sql("UPDATE tasks SET due = due + interval '1 h', updated = updated + interval '1 h'")
    database.sql("UPDATE tasks SET due = due + interval '30 s' WHERE workflow_id = %s", again)
    database.sql("UPDATE workflows SET deadline = deadline + interval '1 h'")
    database.sql("UPDATE nodes SET heartbeat = heartbeat + interval '1 h'")
    assert node.claim() == []
    calls = [database.value("SELECT set_clock_back(2)")]
    while calls[-1]:
        calls.append(database.value("SELECT set_clock_back(2)"))
    assert calls == [True, False]
    assert [answer["workflow_id"] for answer in node.claim_answers()] == [ready]
    assert database.value("SELECT due BETWEEN now() AND now() + interval '30 s' FROM tasks WHERE workflow_id = %s", again)
    assert database.value("SELECT deadline <= now() + interval '60 s' FROM workflows WHERE id = %s", ready)
    assert database.value("SELECT bool_and(heartbeat <= now()) FROM nodes")


def test_clock_that_was_set_back_while_the_machine_was_down(node, database):
    """The heartbeat of an hour to come is none of a machine that was cloned from this one."""
    node.launch("ONE")
    node.launch("CHAIN", slots=0)
    database.sql("UPDATE nodes SET heartbeat = heartbeat + interval '1 h'")
    database.sql("UPDATE tasks SET due = due + interval '1 h', updated = updated + interval '1 h',"
                 " started = started + interval '1 h'")
    next_life = Node(database, directory=node.id, boot="next boot")
    assert database.value("SELECT state FROM nodes WHERE id = %s", node.id) == "dead"
    database.sql("SELECT set_clock_back(9)")
    assert kinds(next_life.reap()) == ["ended"]
    assert next_life.claim() == [(0, 1)]


def test_clock_that_was_not_set_back_changes_nothing(postgres, node, database):
    """A daemon that looks after it waits for no run that somebody is busy with."""
    workflow, _ = node.launch("TIMED")
    other = postgres.connect(database.name)
    other.cursor().execute("SELECT 1 FROM workflows WHERE id = %s FOR UPDATE", [workflow])
    assert not database.value("SELECT set_clock_back(9)")
    other.rollback()


# --- what nobody will move --------------------------------------------------------------------


@pytest.mark.parametrize("damage, why", [
    ("UPDATE tasks SET due = NULL WHERE position = 0", "ready, and not due"),
    ("UPDATE tasks SET status = 'success', finished = now(), due = NULL WHERE position = 0", "waits for a task"),
    ("UPDATE tasks SET status = 'success', finished = now(), due = NULL", "all of its tasks are final"),
    ("UPDATE tasks SET status = 'progress', due = NULL WHERE position = 0", "running, and held by nobody"),
    ("UPDATE workflows SET queued = true, limited = 'test.WAITING', updated = now() - interval '1 h'", "queued, and"),
])
def test_what_is_stuck_is_told(node, database, damage, why):
    node.launch("CHAIN", slots=0)
    assert database.sql("SELECT * FROM stuck") == []
    with database.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(damage)
        cursor.execute("SELECT why FROM stuck")
        assert any(found.startswith(why) for (found,) in cursor.fetchall())
        cursor.execute("ROLLBACK")


def test_queues_that_nobody_serves_are_told(node, database):
    node.launch("ELSEWHERE", slots=0)
    assert database.sql("SELECT queue, tasks FROM unserved") == []
    database.sql("UPDATE nodes SET queues = '{here}'")
    assert database.sql("SELECT queue, tasks FROM unserved") == [("elsewhere", 1)]


# --- making room ------------------------------------------------------------------------------


def test_room_is_there_when_the_processes_are_gone(node, database):
    first, _ = node.launch("WAITING", slots=0)
    node.claim()
    second, _ = node.launch("WAITING", slots=0)

    def waits():
        database.sql("SELECT admit('test', 'WAITING')")
        return database.value("SELECT queued FROM workflows WHERE id = %s", second)

    assert "room" not in kinds(node.cancel(first)) and waits()
    assert "room" not in kinds(node.finish(first, (0, 1, False))) and waits()
    assert "room" in kinds(node.finish(first, (1, 1, False))) and not waits()
    assert database.value("SELECT limited IS NULL FROM workflows WHERE id = %s", first)


@pytest.mark.parametrize("call", [
    "clear_workflows(0, 100)",
    "choose_workflows('test', 'ONE', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 50, 0)",
    "choose_workflows(NULL, 'ONE', NULL, NULL, NULL, NULL, NULL, NULL, NULL, 50, 0)",
])
def test_few_instances_are_found_among_many(node, database, call):
    """In pages that are read: walking over all of the others would be one for each."""
    database.sql("INSERT INTO workflows (id, definition_id, project, name, status, created, updated, finished, payload)"
                 " SELECT first_id('2020-01-01'::timestamptz + n * interval '1 s'), d.id, d.project, d.name, 'success', now(),"
                 " now(), now(), '{}' FROM generate_series(1, 20000) AS n"
                 " JOIN definitions d ON d.name = CASE WHEN n < 4 THEN 'ONE' ELSE 'KEPT' END")
    database.sql("UPDATE definitions SET retention = -1 WHERE name = 'KEPT'")
    with database.cursor() as cursor:
        cursor.execute("COMMIT")
        cursor.execute("VACUUM ANALYZE workflows")
        cursor.execute("SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off;"
                       " SET enable_mergejoin = off; SET plan_cache_mode = force_generic_plan")
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT * FROM {call}")
        plan = cursor.fetchone()[0][0]["Plan"]
        cursor.execute("RESET ALL")
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 5000
    database.sql("TRUNCATE workflows")


def test_hook_of_an_empty_workflow_with_a_limit_runs(node, database):
    node.launch("EMPTY")
    assert database.sql("SELECT status::text, queued FROM workflows") == [("success", False)]
    assert node.claim() == [(0, 1)]


def test_repeated_key_takes_up_no_room(node, database):
    done = node.new_id()
    node.launch_batch([done], ["SKIPPING"], keys=["key"])
    node.claim()
    node.finish(done, (0, 1, True))
    answers = node.launch_batch([node.new_id(), node.new_id()], ["SKIPPING", "SKIPPING"], keys=["key", None])
    assert [(answer["kind"], answer.get("item")) for answer in answers if answer["kind"] != "left"] == [("duplicate", 1)]
    assert database.value("SELECT count(*) FROM workflows") == 2


def version(database, name, **columns):
    """Another version of the definition, loaded just now."""
    values = {"digest": name.encode() + str(columns).encode(), **columns}
    return database.value(
        "INSERT INTO definitions (digest, fullname, project, name, file, document, concurrency, retention, used)"
        " SELECT %s, fullname, project, name, file, document, %s, %s, clock_timestamp() FROM definitions WHERE name = %s"
        " RETURNING id", values["digest"], columns.get("concurrency"), columns.get("retention"), name)


def test_version_that_was_loaded_last_counts(node, database):
    waiting, kept = (node.definition(name) for name in ("WAITING", "KEPT"))
    for _ in range(3):
        workflow, _ = node.launch("KEPT")
        for position in range(4):
            node.finish(workflow, (position, 1, True), slots=1)
    for _ in range(3):
        node.launch("WAITING")
    newer = [version(database, "WAITING"), version(database, "KEPT", retention=0)]
    database.sql("UPDATE definitions SET used = clock_timestamp() WHERE id = ANY (%s)", [waiting, kept])  # the older came back
    assert node.call("admit('test', 'WAITING')") == []
    assert database.value("SELECT count(*) FROM workflows WHERE queued") == 2
    database.value("SELECT clear_workflows(-1, 1000)")
    assert database.value("SELECT count(*) FROM workflows WHERE name = 'KEPT'") == 1
    database.sql("UPDATE definitions SET used = clock_timestamp() WHERE id = ANY (%s)", newer)
    node.call("admit('test', 'WAITING')")
    assert database.value("SELECT count(*) FROM workflows WHERE queued") == 0
    database.value("SELECT clear_workflows(-1, 1000)")
    assert database.value("SELECT count(*) FROM workflows WHERE name = 'KEPT'") == 0


@pytest.mark.parametrize("loaded, relaunched", [("30 h", None), ("9 d", "30 h")])
def test_version_stays_while_it_may_have_an_instance(node, database, loaded, relaunched):
    node.last_ms -= 7 * 3600 * 1000
    workflow, _ = node.launch("ONE")
    node.finish(workflow, (0, 1, True))
    one = node.definition("ONE")
    database.sql("UPDATE definitions SET used = now() - %s::interval, relaunched = now() - %s::interval", loaded, relaunched)

    def left():
        database.value("SELECT clear_history('{}', '30 d', 1000)")
        return [id for (id,) in database.sql("SELECT id FROM definitions")]

    assert left() == [one]
    database.sql("DELETE FROM tasks")
    database.sql("DELETE FROM workflows")
    assert left() == []


def test_version_that_is_loaded_just_now_is_not_removed(postgres, node, database):
    def clear():
        connection = postgres.connect(database.name)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT clear_history('{}', '30 d', 1000)")
        connection.close()

    database.sql("UPDATE definitions SET used = clock_timestamp() - interval '2 days'")
    loading = postgres.connect(database.name)
    with loading, loading.cursor() as cursor:
        cursor.execute("UPDATE definitions SET used = clock_timestamp() WHERE name = 'ONE'")
        clearing = threading.Thread(target=clear)
        clearing.start()
        harness.eventually(lambda: database.value("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
                           "the clearing waits for the loading")
    clearing.join()
    loading.close()
    assert database.sql("SELECT name FROM definitions") == [("ONE",)]


def test_retention_takes_so_many_rows_at_a_time(node, database):
    for _ in range(4):
        workflow, _ = node.launch("KEPT", slots=1)
        for position in range(4):
            node.finish(workflow, (position, 1, True), slots=1)
    assert database.value("SELECT clear_workflows(-1, 3)") == 15  # that many are to go; one instance is always taken
    assert database.value("SELECT count(*) FROM workflows") == 3
    assert database.value("SELECT clear_workflows(-1, 12)") == 10
    assert database.value("SELECT count(*) FROM tasks") == 4
    assert not database.value("SELECT clear_workflows(-1, 12)")


def clear_history(database):
    database.sql("SELECT clear_history('{}', '30 d', 50)")


def test_files_of_hosts_that_are_gone_are_forgotten(node, database):
    database.sql("DELETE FROM definition_files")
    for host in ("host", "pod-1", "pod-2"):
        database.sql("SELECT remember_files(%s, '/etc', '{a.yml}', '{a.yml}', '{text}')", host)

    def ages():
        clear_history(database)
        return database.sql("SELECT host, floor(extract(epoch FROM now() - loaded) / 86400)::int FROM definition_files"
                            " ORDER BY 1")

    database.sql("UPDATE definition_files SET loaded = now() - interval '29 d'")
    assert ages() == [("host", 0), ("pod-1", 29), ("pod-2", 29)]
    database.sql("UPDATE definition_files SET loaded = now() - interval '31 d' WHERE host <> 'pod-2'")
    assert ages() == [("host", 0), ("pod-2", 29)]


def test_schedules_that_were_removed_are_forgotten_after_their_fires(node, database):
    hand, clock = (database.value("SELECT id FROM schedules WHERE name = %s", name) for name in ("HAND", "CLOCK"))

    def left():
        clear_history(database)
        return [id for (id,) in database.sql("SELECT id FROM schedules WHERE id IN (%s, %s) ORDER BY id", hand, clock)]

    database.sql("UPDATE schedules SET removed = now() - interval '31 d' WHERE id = %s", clock)
    database.sql("INSERT INTO fires (schedule_id, scheduled, outcome, decided)"
                 " VALUES (%s, now() - interval '29 d', 'late', now())", clock)
    assert left() == sorted([hand, clock])
    database.sql("UPDATE fires SET scheduled = scheduled - interval '2 d'")
    assert left() == [hand]
    database.sql("UPDATE schedules SET removed = now() - interval '29 d' WHERE id = %s", hand)
    assert left() == [hand]
