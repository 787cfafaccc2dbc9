"""The engine's functions, called as no daemon does at just that moment: nothing here waits."""

import pytest

import harness
from sql_node import Node

DEFINITIONS = """
tasks:
  RUN: {noop: true}
  AGAIN: {script: exit 1, retry: {limit: 2, interval: 1s}}
  GROWING: {script: exit 1, retry: {limit: 6, interval: 1s, backoff: 3, max_interval: 20s}}
test.WIDE: {tasks: [{G: {type: group, tasks: [RUN, RUN, RUN]}}]}
test.JOIN:
  tasks:
    - {G: {type: group, tasks: [{A: {task: RUN}}, {B: {task: RUN}}]}}
    - {C: {task: RUN}}
    - {D: {task: RUN}}
test.CHAIN: {tasks: [{A: {task: RUN}}, {B: {task: RUN}}]}
test.AGAIN: {tasks: [AGAIN]}
test.GROWING: {tasks: [GROWING]}
"""


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
    yield (node := Node(database))
    database.sql("UPDATE nodes SET state = 'stopped' WHERE state <> 'dead'")


def statuses(database):
    """Of all tasks; and of the workflow, with its reason."""
    return ([status for (status,) in database.sql("SELECT status::text FROM tasks ORDER BY position")],
            *database.sql("SELECT status::text, reason FROM workflows"))


# --- ends -------------------------------------------------------------------------------------


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
    assert delays == [1, 3, 9, 20, 20, 20]
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
    assert [answer["kind"] for answer in other.reap("30 s")] == ["dead", "ended"]
    assert statuses(database) == (["error", "canceled"], ("error", "node_lost"))
    assert [answer["kind"] for answer in node.heartbeat(workflow, (0, 1))] == ["dead", "lost"]
