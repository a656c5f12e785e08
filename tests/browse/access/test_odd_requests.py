"""Some thousand malformed requests: no 500, no traceback, no personal data in the log."""

import asyncio
import random

import pytest
from datasette import Request
from datasette.database import QueryInterrupted

from receiver.browse.charts import DASHBOARDS
from receiver.browse.pages import DATABASE, MASKED, error_page
from schema.questions import questions
from tests.browse.access.roles import SECRET

# Datasette serves files.
pytestmark = pytest.mark.sqlite

REQUESTS = 3_000
METHODS = ("GET",) * 12 + ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW", "CONNECT")
ODD = (
    *("", "0", "-1", "1", "99999999999999999999", "1e999", "nan", "x", "'", '"', "\\", "[]", "{}"),
    *("[1", '{"a":', "null", "true", "%", "%00", "%ff", "%c3%28", "%ed%a0%80", "\x7f", "~", "~2"),
    *("~ZZ", "..", "../..", "/", "//", "a" * 3000, "%f0%9f%98%80", "2026-13-45", "0001-01-01"),
    *("9999-12-31", "-999999-01-01", "call_1", "calls", "select 1", "select", "1;2", "--", "/*"),
    *("select :a", "select ?1", "select * from nothing", "with x as", "call_id", "rowid", "*"),
    *("%0d%0aX:1", "session,0", "call_1,session,0", ",", ",,,", "~2E~2F", "_", "on", "max"),
)
NAMES = (
    *(
        "_size",
        "_next",
        "_sort",
        "_sort_desc",
        "_facet",
        "_facet_size",
        "_facet_array",
        "_facet_date",
    ),
    *(
        "_where",
        "_col",
        "_nocol",
        "_search",
        "_searchmode",
        "_search_transcript",
        "_through",
        "_shape",
    ),
    *("_labels", "_trace", "_format", "_json", "_json_infinity", "_extra", "_stream", "_dl", "_nl"),
    *("_ttl", "_hash", "_timelimit", "_nofacet", "_nocount", "_fts_table", "_fts_pk", "_header"),
    *("sql", "q", "page", "agent", "outcome", "number", "since", "until", "version", "direction"),
    *("scrubbed", "next", "call_id", "call_id__gt", "call_id__in", "extra__arraycontains", "tool"),
    *(
        "duration_ms__gte",
        "call_id__like",
        "call_id__glob",
        "start_timestamp__date",
        "_filter_op_1",
    ),
    *("day", "per", "mine", "queue", "turn", "at", "scrubbed"),
    *("_filter_column", "_filter_op", "_filter_value", "_filter_column_1", "seconds", "field"),
)
FOLDERS = (
    *("/", f"/{DATABASE}", f"/{MASKED}", f"/{DATABASE}/calls", f"/{MASKED}/calls"),
    *(f"/{DATABASE}/call_log", f"/{DATABASE}/transcripts", f"/{DATABASE}/utterances", "/-/call"),
    *(f"/{DATABASE}/calls/call_1", f"/{DATABASE}/attributes", "/-/chat", "/-/calls", "/-/static"),
    *(
        "/-/login",
        "/-/logout",
        "/-/dashboards",
        "/-/static-plugins/callhouse",
        "/-/mcp",
        "/_memory",
    ),
    *("/-/review", "/-/grades", "/-/share", "/-/shared", "/-/shared/x", "/-/shared/x/media"),
    *("/-/actor", "/-/metadata", "/-/permissions", "/-/messages", "/-/allow-debug", "/-/threads"),
    *(f"/-/dashboards/{name}" for name in DASHBOARDS),
    *(f"/{DATABASE}/{name}" for name in questions()),
)
SUFFIXES = ("",) * 6 + (".json", ".csv", ".jsono", ".db", "/", ".x", "/x/y/z", ".json.json")
HEADERS = (
    (b"cookie", b"ds_actor=\xff\xfe; ds_csrftoken=x; a=\x00"),
    (b"cookie", b"ds_messages=x; ds_messages=y; =; ;;; ,"),
    (b"cookie", b'ds_csrftoken="\\777"; ds_actor="a b'),
    (b"x-csrftoken", b"\xe9"),
    (b"authorization", b"Bearer \xff"),
    (b"authorization", b"Basic !!!"),
    (b"authorization", b"Bearer"),
    (b"accept", b"application/json"),
    (b"host", b"\xff:x"),
    (b"content-length", b"-1"),
    (b"content-length", b"99999999999999999999999"),
    (b"content-type", b"multipart/form-data"),
    (b"content-type", b"multipart/form-data; boundary="),
    (b"content-type", b"application/json"),
    (b"if-none-match", b"\xff"),
    (b"range", b"bytes=9-1"),
    (b"accept-encoding", b"\xff, gzip;q=x"),
)
BODIES = (
    b"",
    b"\xff\xfe",
    b"username=%ff&password=%00",
    b"csrftoken=%C3%A9",
    b"a" * 70_000,
    b"&=&=",
)


def request(chance, logins):
    """A request as ASGI has it, and its body."""
    path = chance.choice(FOLDERS) + chance.choice(SUFFIXES)
    if chance.random() < 0.4:
        path = f"{chance.choice(FOLDERS)}/{chance.choice(ODD)}{chance.choice(SUFFIXES)}"
    names = chance.choices(NAMES, k=chance.randrange(4))
    query = "&".join(f"{name}={chance.choice(ODD)}" for name in names)
    # As servers hand them on: ASCII, and the path decoded beside.
    raw = path.encode("ascii", "replace").replace(b" ", b"%20")
    headers = [(b"host", b"localhost"), *chance.choices(HEADERS, k=chance.choice((0, 0, 0, 1, 2)))]
    method = chance.choice(METHODS)
    if method == "POST" and chance.random() < 0.7:
        headers.append((b"content-type", b"application/x-www-form-urlencoded"))
    headers += chance.choice(logins)
    scope = {
        "type": "http",
        "method": method,
        "path": raw.decode(),
        "raw_path": raw,
        "query_string": query.replace(" ", "+").encode("latin-1"),
        "headers": headers,
        "scheme": "http",
        "client": ("127.0.0.1", 1),
    }
    return scope, chance.choice(BODIES)


async def answered(app, scope, body):
    """The status; what the app raises counts as 500 and is named."""
    status, left = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return left.pop() if left else {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            status.append(message["status"])

    try:
        await app(scope, receive, send)
    except Exception as error:
        return f"500 {error!r}"
    return status[0]


@pytest.mark.slow
# Datasette leaves coroutines of facets behind when one of them fails.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_odd_requests_cause_no_500_or_traceback(served, known, capfd, caplog):
    chance = random.Random(8)
    session = served.callhouse_authentication.sessions.start(
        served.callhouse_authentication.access.admin_actor
    )
    logins = [
        [],
        [(b"authorization", f"Bearer {known['max']}".encode())],
        *[[(b"cookie", f"ds_actor={session}; ds_csrftoken=x".encode())]] * 4,
    ]
    app = served.app()

    async def every():
        found = []
        for _ in range(REQUESTS):
            scope, body = request(chance, logins)
            status = await answered(app, scope, body)
            if str(status).startswith("5"):
                found.append((status, scope["method"], scope["raw_path"], scope["query_string"]))
        return found

    failures = asyncio.run(every())
    output = capfd.readouterr().err + caplog.text
    assert not failures, failures[:5]
    assert "Traceback" not in output
    assert SECRET not in output


def test_late_query_is_503(served):
    error = QueryInterrupted(None, "select 1", None)
    answer = asyncio.run(error_page(served, Request.fake("/-/call/x.json"), error))
    assert answer.status == 503
    assert "takes too long" in answer.body


def test_failure_is_logged_without_values(served, caplog):
    try:
        int(SECRET)
    except ValueError as raised:
        error = raised
    answer = asyncio.run(error_page(served, Request.fake("/x.json"), error))
    assert answer.status == 400
    assert "ValueError at test_odd_requests.py" in caplog.text
    assert SECRET not in caplog.text + answer.body
