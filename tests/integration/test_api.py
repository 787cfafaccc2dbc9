"""The REST contract, to the byte."""

import datetime
import json
import re
import uuid

import pytest

from harness import eventually

DEFINITIONS = """
tasks:
  A: {script: 'echo 1 > $DIRECTOR_RESULT'}
  B: {noop: true}
  BAD: {script: exit 3}
  LONG: {script: sleep 60}
test.ONE: {tasks: [A]}
test.TWO: {tasks: [A, B]}
test.BAD: {tasks: [BAD, B]}
test.LONG: {tasks: [LONG]}
test.EMPTY: {tasks: []}
other.ONE: {tasks: [B]}
"""

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"
ID = r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
UNKNOWN = "01234567-89ab-7def-8123-456789abcdef"


def assert_looks(reply, pattern):
    """The body is the pattern, in which TIME and ID stand for any, and everything else for itself."""
    regex = re.escape(pattern).replace("TIME", TIME).replace("ID", ID)
    assert re.fullmatch(regex + "\n", reply.text), reply.text


def error(text, **more):
    return json.dumps({"error": text, **more}, separators=(",", ":"), ensure_ascii=False) + "\n"


# --- everywhere --------------------------------------------------------------------------------


def test_ping(daemon):
    reply = daemon.get("/api/ping")
    assert (reply.status, reply.text) == (200, '{"message":"pong"}\n')
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["Content-Length"] == "19"


@pytest.mark.parametrize("path", [
    "/", "/api", "/api/", "/api/ping/", "/API/ping", "/api/Ping", "/api/workflows/", "/api/nothing",
    f"/api/workflows/{UNKNOWN}/", f"/api/workflows/{UNKNOWN}/nothing", "/api/workflows//cancel", "//api/ping",
])
def test_unknown_path_is_404(daemon, path):
    reply = daemon.get(path)
    assert (reply.status, reply.text) == (404, error(f"{path} not found"))


@pytest.mark.parametrize("method, path, allow", [
    ("POST", "/api/ping", "GET, HEAD, OPTIONS"),
    ("DELETE", "/api/workflows", "GET, HEAD, POST, OPTIONS"),
    ("PUT", f"/api/workflows/{UNKNOWN}", "GET, HEAD, OPTIONS"),
    ("PATCH", "/api/definitions", "GET, HEAD, OPTIONS"),
    ("GET", f"/api/workflows/{UNKNOWN}/relaunch", "POST, OPTIONS"),
    ("HEAD", f"/api/workflows/{UNKNOWN}/cancel", "POST, OPTIONS"),
])
def test_wrong_method_is_405(daemon, method, path, allow):
    reply = daemon.request(method, path)
    assert reply.status == 405
    assert reply.headers["Allow"] == allow
    if method != "HEAD":
        assert reply.text == error(f"{method} is not allowed for {path}")


def test_options_says_what_is_allowed(daemon):
    reply = daemon.request("OPTIONS", "/api/workflows")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["Allow"] == "GET, HEAD, POST, OPTIONS"


def test_head_is_get_without_a_body(daemon):
    workflow = daemon.run("ONE")["id"]
    for path in ("/api/ping", "/api/workflows", f"/api/workflows/{workflow}", "/api/definitions", "/nothing"):
        get, head = daemon.get(path), daemon.request("HEAD", path)
        assert (head.status, head.body) == (get.status, b"")
        assert head.headers["Content-Length"] == str(len(get.body))
        assert head.headers["Content-Type"] == get.headers["Content-Type"]


# --- launching ---------------------------------------------------------------------------------


def test_launch_answers_the_nine(daemon):
    reply = daemon.post("/api/workflows", '{"project":"test","name":"ONE","payload":{}}')
    assert reply.status == 201
    assert_looks(reply, '{"created":"TIME","fullname":"test.ONE","id":"ID","name":"ONE","payload":{},'
                        '"periodic":false,"project":"test","status":"pending","updated":"TIME"}')
    launched = reply.json()
    assert launched["created"] == launched["updated"]
    age = datetime.datetime.now(datetime.timezone.utc) - datetime.datetime.fromisoformat(launched["created"])
    assert abs(age.total_seconds()) < 60


def test_launch_with_a_comment_answers_the_ten(daemon):
    reply = daemon.post("/api/workflows", {"project": "test", "name": "ONE", "payload": {}, "comment": "why not"})
    assert reply.status == 201
    assert_looks(reply, '{"comment":"why not","created":"TIME","fullname":"test.ONE","id":"ID","name":"ONE",'
                        '"payload":{},"periodic":false,"project":"test","status":"pending","updated":"TIME"}')


def test_launched_ids_are_in_the_order_of_created(daemon):
    launched = [daemon.post("/api/workflows", {"project": "test", "name": "EMPTY", "payload": {}}).json()
                for _ in range(20)]
    assert launched == sorted(launched, key=lambda one: one["id"]) == sorted(launched, key=lambda one: one["created"])


@pytest.mark.parametrize("payload", [
    '{"n":9007199254740993,"f":1.0,"e":1E+2,"z":-0,"big":123456789012345678901234567890}',
    '{"z":1,"a":2,"m":{"z":1,"a":2}}',
    '{ "spaces" :  [ 1 ,\t2 ]\n}',
    '{"unicode":"Grüße \U0001f600","escaped":"\\u00e9\\ud83d\\ude00\\/","control":"\\u0001\\n"}',
    '{"":"","a":null,"b":true,"c":[],"d":{}}',
    '{"html":"<script>&amp;</script>"}',
])
def test_payload_passes_byte_for_byte(daemon, payload):
    reply = daemon.post("/api/workflows", f'{{"project":"test","name":"EMPTY","payload":{payload}}}')
    assert reply.status == 201
    shown = f'"payload":{payload},"periodic"'.encode()
    assert shown in reply.body
    workflow = reply.json()["id"]
    assert shown in daemon.get(f"/api/workflows/{workflow}").body
    assert shown in daemon.get("/api/workflows?per_page=1").body
    relaunched = daemon.post(f"/api/workflows/{workflow}/relaunch")
    assert relaunched.status == 201 and shown in relaunched.body


def test_comment_has_255_characters(daemon):
    body = {"project": "test", "name": "EMPTY", "payload": {}, "comment": "ü" * 255}
    reply = daemon.post("/api/workflows", body)
    assert reply.status == 201 and reply.json()["comment"] == "ü" * 255
    reply = daemon.post("/api/workflows", {**body, "comment": "ü" * 256})
    assert reply.status == 400
    assert reply.json()["error"] == "Error validating against schema"
    assert "255" in reply.json()["errors"][0]


def test_escaped_names_are_read(daemon):
    reply = daemon.post("/api/workflows", r'{"proj\u0065ct":"t\u0065st","name":"EMPTY","payload":{}}')
    assert reply.status == 201, reply


@pytest.mark.parametrize("project, name", [("test", "NOPE"), ("nope", "ONE"), ("test", ""), ("te", "st.ONE"),
                                           ("Test", "ONE"), ("über", "ÖDE")])
def test_unknown_definition_is_404(daemon, project, name):
    reply = daemon.post("/api/workflows", {"project": project, "name": name, "payload": {}})
    assert (reply.status, reply.text) == (404, error(f"Workflow {project}.{name} not found"))


@pytest.mark.parametrize("body, reasons", [
    ('{}', ["'project' is a required property", "'name' is a required property", "'payload' is a required property"]),
    ('{"project":"test","payload":{}}', ["'name' is a required property"]),
    ('{"project":1,"name":"ONE","payload":{}}', ["1 is not of type 'string'"]),
    ('{"project":"test","name":"ONE","payload":"x"}', ["'x' is not of type 'object'"]),
    ('{"project":"test","name":"ONE","payload":null}', ["None is not of type 'object'"]),
    ('{"project":"test","name":true,"payload":[]}',
     ["True is not of type 'string'", "[] is not of type 'object'"]),
    ('{"project":"test","name":"ONE","payload":{},"comment":false}', ["False is not of type 'string'"]),
    ('{"project":"test","name":"ONE","payload":{},"foo":1}',
     ["Additional properties are not allowed ('foo' was unexpected)"]),
    ('{"project":"test","name":"ONE","payload":{},"foo":1,"bar":2}',
     ["Additional properties are not allowed ('foo', 'bar' were unexpected)"]),
    ('{"foo":1,"project":1,"payload":{}}',
     ["'name' is a required property", "Additional properties are not allowed ('foo' was unexpected)",
      "1 is not of type 'string'"]),
    ('[]', ["[] is not of type 'object'"]),
    ('"text"', ["'text' is not of type 'object'"]),
    ('12', ["12 is not of type 'object'"]),
    ('null', ["None is not of type 'object'"]),
])
def test_invalid_launch_has_directors_words(daemon, body, reasons):
    reply = daemon.post("/api/workflows", body)
    assert (reply.status, reply.text) == (400, error("Error validating against schema", errors=reasons))


@pytest.mark.parametrize("body", [
    b"{", b"{]", b"{'a':1}", b"[1,]", b"nul", b'{"a":1}x', b'{"a":01}', b'{"a":.5}', b'{"a":NaN}', b'{"a":Infinity}',
    b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'{"a":"\xff"}', b'{"a":"\xc0\x80"}', b'{"a":"\xed\xa0\x80"}',
    b'{"a":"\\ud800"}', b'{"a":"\\udc00x"}', b'{"a":"\\u0000"}', b'{"a":"\x00"}', b'{"a":"\n"}', b'{"a":"\\x"}',
    b"\xef\xbb\xbf{}", b" ", b"[" * 65 + b"]" * 65, b'{"a":"',
])
def test_malformed_json_is_400_with_a_reason(daemon, body):
    reply = daemon.post("/api/workflows", body)
    assert reply.status == 400
    assert re.match(r"Malformed JSON: .*(line|byte|column|position|offset) \d+", reply.json()["error"]), reply.text


def test_depth_of_64_is_taken(daemon):
    deep = '{"a":' * 63 + "1" + "}" * 63  # the payload stands in the request
    reply = daemon.post("/api/workflows", f'{{"project":"test","name":"EMPTY","payload":{deep}}}')
    assert reply.status == 201, reply


def test_launch_needs_a_body(daemon):
    assert daemon.post("/api/workflows").status == 400


@pytest.mark.parametrize("content_type, status", [
    ("application/json", 201), ("application/json; charset=utf-8", 201), ("APPLICATION/JSON", 201),
    ("application/vnd.api+json", 201), ("text/plain", 415), ("application/jsonx", 415), ("application/xml", 415),
    ("application/x-www-form-urlencoded", 415), ("", 415), ("json", 415),
])
def test_content_type(daemon, content_type, status):
    reply = daemon.post("/api/workflows", {"project": "test", "name": "EMPTY", "payload": {}},
                        **{"Content-Type": content_type})
    assert reply.status == status
    if status == 415:
        assert "application/json" in reply.json()["error"]


def test_idempotency_key(daemon):
    body = {"project": "test", "name": "ONE", "payload": {"a": 1}}
    first = daemon.post("/api/workflows", body, **{"Idempotency-Key": "k1"})
    again = daemon.post("/api/workflows", body, **{"Idempotency-Key": "k1"})
    assert (first.status, again.status) == (201, 201)
    assert again.body == first.body
    other = daemon.post("/api/workflows", {**body, "payload": {}}, **{"Idempotency-Key": "k1"})
    assert other.status == 422
    assert daemon.post("/api/workflows", body, **{"Idempotency-Key": "k2"}).json()["id"] != first.json()["id"]
    assert daemon.post("/api/workflows", body, **{"Idempotency-Key": "k" * 256}).status == 400


@pytest.mark.parametrize("key, status", [("\u00fc".encode(), 201), (b"\xfc", 400), (b"\xc0\x80", 400)])
def test_idempotency_key_is_utf8(daemon, key, status):
    reply = daemon.post("/api/workflows", {"project": "test", "name": "EMPTY", "payload": {}},
                        **{"Idempotency-Key": key})
    assert reply.status == status, reply
    if status == 400:
        assert reply.json() == {"error": "Idempotency-Key must be UTF-8"}


# --- one workflow ------------------------------------------------------------------------------


def test_workflow_by_id(daemon):
    workflow = daemon.run("TWO", {"a": 1})["id"]
    reply = daemon.get(f"/api/workflows/{workflow}")
    task = ('{"attempt":1,"created":"TIME","finished":"TIME","id":"ID","is_hook":false,"key":"%s","node":"NODE",'
            '"previous":[%s],"queue":"default","result":%s,"started":"TIME","status":"success","task":"ID",'
            '"updated":"TIME"}').replace("NODE", daemon.node)
    assert reply.status == 200
    assert_looks(reply, '{"created":"TIME","finished":"TIME","fullname":"test.TWO","id":"ID","name":"TWO",'
                        '"payload":{"a": 1},"periodic":false,"project":"test","started":"TIME","status":"success",'
                        '"tasks":[' + task % ("A", "", "1") + "," + task % ("B", '"ID"', "null") + '],'
                        '"updated":"TIME"}')
    found = reply.json()
    first, second = found["tasks"]
    assert second["previous"] == [first["id"]] and first["task"] == first["id"]
    assert uuid.UUID(first["id"]).int == uuid.UUID(workflow).int + 1
    assert found["started"] <= first["finished"] <= second["started"] <= found["finished"]


def test_failed_workflow_by_id(daemon):
    found = daemon.run("BAD", status="error")
    first, second = found["tasks"]
    assert (first["status"], first["result"]) == ("error", {"exception": "exit status 3", "traceback": ""})
    assert (second["status"], second["reason"]) == ("canceled", "upstream_failed")
    assert "attempt" not in second and "started" not in second and "node" not in second


def test_workflow_without_payload(daemon):
    workflow = daemon.launch("EMPTY", {"a": 1})
    assert "payload" not in daemon.get(f"/api/workflows/{workflow}?with_payload=false").json()
    assert "payload" in daemon.get(f"/api/workflows/{workflow}?with_payload=1").json()


def test_ids_are_read_in_every_spelling(daemon):
    workflow = daemon.launch("EMPTY")
    for spelling in (workflow.upper(), workflow.replace("-", ""), workflow.replace("-", "").upper()):
        reply = daemon.get(f"/api/workflows/{spelling}")
        assert reply.status == 200 and reply.json()["id"] == workflow
    assert daemon.post(f"/api/workflows/{workflow.upper()}/relaunch").status == 201


@pytest.mark.parametrize("name", [UNKNOWN, "xyz", "1", "null", UNKNOWN[:-1], UNKNOWN + "0", "%7B%7D", "a%20b",
                                  UNKNOWN.replace("-", "_"), "%C3%BC"])
def test_unknown_id_is_404(daemon, name):
    shown = re.sub("(%[0-9A-F]{2})+", lambda m: bytes.fromhex(m[0].replace("%", "")).decode(), name)
    for method, tail in (("GET", ""), ("POST", "/relaunch"), ("POST", "/cancel")):
        reply = daemon.request(method, f"/api/workflows/{name}{tail}")
        assert (reply.status, reply.text) == (404, error(f"Workflow {shown} not found"))


# --- lists -------------------------------------------------------------------------------------


@pytest.fixture
def five(daemon):
    """Five workflows, the newest first."""
    return [daemon.launch("EMPTY", {"n": n}) for n in range(5)][::-1]


def ids(reply):
    assert reply.status == 200, reply
    return [workflow["id"] for workflow in reply.json()]


def test_list_of_nothing(start):
    daemon = start("test.A: {tasks: []}")
    for path in ("/api/workflows", "/api/workflows?page=1&per_page=3"):
        reply = daemon.get(path)
        assert (reply.status, reply.text) == (200, "[]\n")
    assert daemon.get("/api/workflows?page=2").status == 404
    assert "Link" not in daemon.get("/api/workflows").headers


def test_list_is_newest_first_without_tasks(daemon, five):
    reply = daemon.get("/api/workflows")
    assert ids(reply)[:5] == five
    assert "tasks" not in reply.json()[0]
    assert_looks(daemon.get("/api/workflows?per_page=1"),
                 '[{"created":"TIME","finished":"TIME","fullname":"test.EMPTY","id":"ID","name":"EMPTY",'
                 '"payload":{"n": 4},"periodic":false,"project":"test","started":"TIME","status":"success",'
                 '"updated":"TIME"}]')


def test_pages(daemon, five):
    assert ids(daemon.get("/api/workflows?per_page=2")) == five[:2]
    assert ids(daemon.get("/api/workflows?per_page=2&page=2")) == five[2:4]
    assert ids(daemon.get("/api/workflows?page=3&per_page=2"))[0] == five[4]
    assert ids(daemon.get("/api/workflows?per_page=0")) == []
    reply = daemon.get("/api/workflows?page=100000")
    assert reply.status == 404 and "error" in reply.json()


def test_link_leads_through_everything(daemon, five):
    path, seen = "/api/workflows?per_page=2&with_payload=no", []
    for _ in range(1000):
        reply = daemon.get(path)
        seen += ids(reply)
        if "Link" not in reply.headers:
            break
        path = re.fullmatch(r'<(/api/workflows\?.*before=.*)>; rel="next"', reply.headers["Link"])[1]
        assert "page=2" not in path.replace("per_page=2", "") and "with_payload=no" in path
    assert seen == ids(daemon.get("/api/workflows?per_page=10000"))


def test_link_is_no_longer_than_a_target(daemon, five):
    assert "Link" in daemon.get("/api/workflows?per_page=1&x=" + "y" * 8000).headers
    reply = daemon.get("/api/workflows?per_page=1&x=" + "'" * 8000)
    assert reply.status == 200 and "Link" not in reply.headers


@pytest.mark.parametrize("value, shown", [("false", False), ("0", False), ("no", False), ("OFF", False), ("n", False),
                                          ("F", False), ("False", False), ("true", True), ("1", True), ("", True),
                                          ("x", True)])
def test_list_with_payload(daemon, five, value, shown):
    assert ("payload" in daemon.get(f"/api/workflows?with_payload={value}&per_page=1").json()[0]) == shown


@pytest.mark.parametrize("query, named", [
    ("page=0", "page"), ("page=-1", "page"), ("page=x", "page"), ("page=", "page"), ("page=1.5", "page"),
    ("per_page=-1", "per_page"), ("per_page=x", "per_page"), ("per_page=10001", "per_page"),
    ("page=99999999999999999999", "page"), ("per_page=%201", "per_page"), ("page=1&page=2", "page"),
    ("status=done", "status"), ("status=success,", "status"), ("created_after=yesterday", "created_after"),
    ("before=x", "before"), ("before=00000000-0000-0000-0000-000000000000", "before"),
])
def test_bad_query_is_400_and_named(daemon, query, named):
    reply = daemon.get(f"/api/workflows?{query}")
    assert reply.status == 400
    assert f"'{named}'" in reply.json()["error"]


@pytest.mark.parametrize("query", ["%zz=1", "name=%", "name=%ff", "name=%00", "%ff"])
def test_undecodable_query_is_400(daemon, query):
    assert daemon.get(f"/api/workflows?{query}").status == 400


def test_default_of_per_page_is_a_setting(start):
    daemon = start("test.A: {tasks: []}", workflows_per_page=2)
    for _ in range(3):
        daemon.launch("A")
    assert len(daemon.get("/api/workflows").json()) == 2
    assert len(daemon.get("/api/workflows?per_page=3").json()) == 3


def test_filters(start):
    daemon = start(DEFINITIONS)
    good, bad, long = daemon.launch("ONE", comment="100% of_it"), daemon.launch("BAD"), daemon.launch("LONG")
    reply = daemon.post("/api/workflows", {"project": "other", "name": "ONE", "payload": {}, "comment": "OTHER"})
    other = reply.json()["id"]
    daemon.wait(good), daemon.wait(bad, "error"), daemon.wait(long, "progress"), daemon.wait(other)
    created = {workflow["id"]: workflow["created"] for workflow in daemon.get("/api/workflows").json()}

    def listed(**query):
        return ids(daemon.get("/api/workflows?" + "&".join(f"{k}={v}" for k, v in query.items())))

    assert listed(project="other") == [other]
    assert listed(name="ONE") == [other, good]
    assert listed(project="test", name="ONE") == [good]
    assert listed(status="error") == [bad]
    assert listed(status="progress,error") == [long, bad]
    assert listed(periodic="true") == []
    assert listed(periodic="false") == [other, long, bad, good]
    assert listed(comment="of_it") == [good]
    assert listed(comment="100%25") == [good]
    assert listed(comment="o%25it") == []
    assert set(listed(created_after=created[bad].replace("+", "%2B"))) >= {long, other}
    assert set(listed(created_before=created[bad].replace("+", "%2B"))) >= {good}
    assert good not in listed(created_after=created[bad].replace("+", "%2B"))
    assert listed(before=bad) == [good]
    assert listed(project="nothing") == []
    assert daemon.cancel(long).status == 201


# --- relaunch ----------------------------------------------------------------------------------


def test_relaunch(daemon):
    original = daemon.launch("ONE", {"a": 1}, comment="once")
    reply = daemon.post(f"/api/workflows/{original}/relaunch")
    assert reply.status == 201
    again = reply.json()["id"]
    assert again != original
    assert "relaunched_from" not in reply.json() and reply.json()["status"] == "pending"
    found = daemon.wait(again)
    assert (found["payload"], found["comment"], found["relaunched_from"]) == ({"a": 1}, "once", original)


def test_relaunch_runs_on_todays_definition(start):
    daemon = start("test.A: {tasks: []}")
    original = daemon.run("A")["id"]
    daemon.define("test.A: {tasks: [{NEW: {noop: true}}]}")
    assert daemon.reload()["errors"] == []
    found = daemon.wait(daemon.post(f"/api/workflows/{original}/relaunch").json()["id"])
    assert [task["key"] for task in found["tasks"]] == ["NEW"]
    daemon.define("{}")
    assert daemon.reload()["loaded"] == 0
    reply = daemon.post(f"/api/workflows/{original}/relaunch")
    assert (reply.status, reply.text) == (404, error("Workflow test.A not found"))


def test_relaunch_takes_an_empty_body(daemon):
    original = daemon.launch("EMPTY")
    assert daemon.post(f"/api/workflows/{original}/relaunch", {}).status == 201
    reply = daemon.post(f"/api/workflows/{original}/relaunch", {"from": "failed"})
    assert reply.status == 409 and "is success" in reply.json()["error"]
    assert daemon.post(f"/api/workflows/{original}/relaunch", "{").status == 400
    for body in ({"from": "fail"}, {"form": "failed"}, {"from": "failed", "at": 1}, []):
        reply = daemon.post(f"/api/workflows/{original}/relaunch", body)
        assert (reply.status, reply.json()["error"]) == (400, 'the body must be empty, {} or {"from": "failed"}'), body
    assert daemon.post(f"/api/workflows/{original}/relaunch", "{}", **{"Content-Type": "text/plain"}).status == 415


# --- cancel ------------------------------------------------------------------------------------


def test_cancel(daemon):
    workflow = daemon.launch("LONG", {"a": 1})
    daemon.wait_task(workflow, "LONG", "progress")
    reply = daemon.cancel(workflow)
    assert reply.status == 201
    assert_looks(reply, '{"created":"TIME","fullname":"test.LONG","id":"ID","name":"LONG","payload":{"a": 1},'
                        '"periodic":false,"project":"test","status":"canceled","updated":"TIME"}')
    found = daemon.workflow(workflow)
    assert (found["status"], found["reason"]) == ("canceled", "canceled_by_user")
    assert (found["tasks"][0]["status"], found["tasks"][0]["reason"]) == ("canceled", "canceled_by_user")
    again = daemon.cancel(workflow)
    assert (again.status, again.body) == (201, reply.body)


def test_cancel_of_what_has_ended_is_409(daemon):
    for name, status in (("ONE", "success"), ("BAD", "error")):
        workflow = daemon.run(name, status=status)["id"]
        before = daemon.get(f"/api/workflows/{workflow}").body
        reply = daemon.cancel(workflow)
        assert (reply.status, reply.text) == (409, error(f"Workflow {workflow} is already {status}"))
        assert daemon.get(f"/api/workflows/{workflow}").body == before


# --- requests that need no body ----------------------------------------------------------------


@pytest.mark.parametrize("path, status", [
    (f"/api/workflows/{UNKNOWN}/cancel", 404), (f"/api/workflows/{UNKNOWN}/relaunch", 404),
    (f"/api/nodes/{UNKNOWN}/drain", 404), ("/api/schedules/test.NOPE/trigger", 404), ("/api/reload", 200),
])
def test_body_where_none_is_needed(daemon, path, status):
    """What it says would be taken for done."""
    for body in (None, "", "{}", " { } "):
        assert daemon.post(path, body).status == status, body
    for body in ('{"payload":{}}', "[]", "null", "{", '{"a":1,"a":1}'):
        assert daemon.post(path, body).status == 400, body
    assert daemon.post(path, "{}", **{"Content-Type": "text/plain"}).status == 415


# --- definitions and health --------------------------------------------------------------------


def test_definitions(start):
    daemon = start("""
        tasks: {A: {noop: true}}
        test.Z: {tasks: [A], queue: q, hooks: {failure: A}, labels: {b: "1.0", a: x}}
        test.B:
          tasks: [{G: {type: group, tasks: [A, A]}}, A]
          periodic: {crontab: "0 3 * * *", payload: {z: 1, a: 2}}
        other.A: {tasks: []}
        """)
    reply = daemon.get("/api/definitions")
    assert reply.status == 200
    assert reply.text == (
        '[{"fullname":"other.A","name":"A","project":"other","tasks":[]},'
        '{"fullname":"test.B","name":"B","periodic":{"crontab":"0 3 * * *","payload":{"a":2,"z":1}},"project":"test",'
        '"tasks":[{"G":{"tasks":["A","A"],"type":"group"}},"A"]},'
        '{"fullname":"test.Z","hooks":{"failure":"A"},"labels":{"a":"x","b":"1.0"},"name":"Z","project":"test",'
        '"queue":"q","tasks":["A"]}]\n')


def test_definition(start):
    daemon = start("""
        tasks: {A: {noop: true}}
        test.B:
          tasks: [{G: {type: group, tasks: [A, A]}}, A]
          periodic: {crontab: "0 3 * * *"}
        """)
    found = daemon.get("/api/definitions/test.B").json()
    assert list(found) == sorted(found)
    assert [(task["position"], task["key"], task["previous"]) for task in found["graph"]] == [
        (0, "A", []), (1, "A", []), (2, "A", [0, 1])]
    assert found["file"] == "workflows.d/test.yml"
    assert len(found["next"]) == 5 and all(re.fullmatch(TIME, at) and "T03:00:00" in at for at in found["next"])
    reply = daemon.get("/api/definitions/test.NOPE")
    assert (reply.status, reply.text) == (404, error("Workflow test.NOPE not found"))


def test_health(daemon):
    reply = daemon.get("/api/health")
    health = reply.json()
    assert reply.status == 200
    assert list(health) == sorted(health)
    assert (health["status"], health["database"]["status"]) == ("ok", "up")
    assert health["definitions"] == {"differing_nodes": 0, "errors": [], "loaded": 6}
    eventually(lambda: daemon.get("/api/health").json()["scheduler"]["running"] == 0, "nothing runs")
