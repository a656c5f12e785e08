"""Datasette as callhouse starts it, in process."""

import asyncio
import os
import re
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from jinja2 import Environment

from receiver.browse import datasette_compat, server
from receiver.browse.pool import QueryPool
from receiver.browse.server import warm_up
from receiver.store import migrate, receive
from receiver.store.connection import sqlite3
from tests.support.browsing import browsing, fetched, visiting
from tests.support.storing import add, stored
from tests.support.webhooks import payload

# Datasette serves files.
pytestmark = pytest.mark.sqlite


# Of a process, in a session of its own or another's: its nice value and that of its session.
LOWER_PRIORITY = """
import os, sys
from pathlib import Path
from receiver.browse.server import lower_priority
if sys.argv[1] == "own" or not os.fork():
    lower_priority()
    print(os.nice(0), *Path("/proc/self/autogroup").read_text().split()[-1:])
else:
    os.wait()
"""


@pytest.fixture
def browse(settings):
    """Get a page as admin; the database holds one call and one chat."""
    with visiting(settings) as get:
        yield get


@pytest.fixture
def call(store):
    event = payload("event-call_analyzed")
    stored(store, event)
    return event["call"]


def test_call_ids_link_to_calls(browse, call):
    link = f'href="/-/call/{call["call_id"]}"'
    for page in ("call_log", "calls", "analyses", "utterances"):
        assert link in browse(f"/retell/{page}").text, page
    assert link in browse("/retell?sql=select+call_id+from+analyses").text
    assert link in browse(f"/retell/calls/{call['call_id']}").text


def test_anonymous_visitor_gets_login_and_robots_only(settings):
    with browsing(settings) as served:
        # What a route begins with; some are of Datasette and its plugins.
        routes = [pattern.pattern for pattern, _ in served._routes()]
        require_logins(served, routes)


def require_logins(served, routes):
    paths = {re.split(r"[($]", route)[0].strip("^").replace("\\", "") for route in routes}
    assert {"/", "/-/plugins", "/-/permissions", "/-/calls"} <= paths
    tools = {"/-/allow-debug", "/-/password-tool"}
    for path in paths | tools | {"/retell", "/retell_masked"}:
        answer = fetched(served, path, None)
        is_open = path in ("/-/login", "/robots.txt", "/favicon.ico")
        is_static = path.startswith("/-/static")
        is_login = answer.headers.get("location", "").startswith("/-/login")
        assert is_open or is_static or is_login or answer.status_code in (401, 403), path


def test_first_visitors_find_templates_compiled(settings, store, call, monkeypatch):
    compiled, compile_one = [], Environment.compile

    def compile_noted(*asked, **more):
        compiled.append(asked)
        return compile_one(*asked, **more)

    with browsing(settings) as served:
        asyncio.run(served.invoke_startup())
        warm_up(served)
        monkeypatch.setattr(Environment, "compile", compile_noted)
        for path in ("/", "/-/calls", f"/-/call/{call['call_id']}", "/retell", "/retell/calls"):
            assert fetched(served, path).status_code == 200
    assert compiled == []


def test_the_stylesheet_is_ours_and_needs_no_login(browse):
    link = "/-/static-plugins/callhouse/callhouse.css"
    assert link in browse("/retell/call_log").text
    assert browse(link, actor=False).status_code == 200


def test_day_is_shown_without_a_time(browse, store):
    page = browse("/retell?sql=select '2026-05-12' as since, '2026-05-12T10:00:00Z' as started_at")
    assert ">2026-05-12</td>" in page.text
    assert page.text.count("<time ") == 1


def test_a_call_id_with_markup_stays_text(browse, store):
    stored(store, {"event": "call_ended", "call": {"call_id": "<script>alert(1)</script>"}})
    page = browse("/retell/call_log").text
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_rows_are_counted_until_the_file_is_large(browse, call, monkeypatch):
    assert "1 row" in browse("/retell").text
    monkeypatch.setattr(datasette_compat, "MAX_COUNTED_FILE_BYTES", 0)
    page = browse("/retell").text
    assert "Not counted" in page
    assert "Many rows" not in page
    assert "1 row" not in page
    assert "attached to this connection" not in page
    assert "🔒" not in page
    assert "<strong>" not in browse("/retell/utterances").text.split('class="export-links"')[1][:60]
    assert "<strong>1 row</strong>" in browse("/retell/calls").text
    counted = browse("/retell.json?sql=select count(*) from utterances&_shape=arrayfirst")
    assert counted.json()[0] > 0


def test_page_of_tables_needs_few_queries(browse, call, monkeypatch):
    """Each query waits for a thread, and Datasette asks several times about each table."""
    queries, submit = [], QueryPool.submit
    monkeypatch.setattr(QueryPool, "submit", lambda *asked: queries.append(asked) or submit(*asked))
    assert "observations" in browse("/retell").text
    assert len(queries) < 20


def test_tables_added_meanwhile_are_shown(browse, call, db_path):
    assert "later_table" not in browse("/retell").text
    with closing(sqlite3.connect(db_path)) as connection:
        connection.execute("CREATE TABLE later_table (later_column TEXT PRIMARY KEY)")
    page = browse("/retell").text
    assert "later_table" in page
    assert "later_column" in page


def test_sql_cannot_write_or_attach(browse, call):
    for sql in ("delete from calls", "attach 'x.db' as x", "pragma journal_mode = delete"):
        assert browse(f"/retell.json?sql={sql}").status_code == 400, sql


def test_database_is_always_named_retell(browse):
    assert browse("/retell").status_code == 200


def test_secret_is_created_once_for_owner_alone(settings):
    path = settings.database_path.with_suffix(".secret")
    first = server.signing_secret(settings)
    assert server.signing_secret(settings) == first == path.read_text()
    assert len(first) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_private_columns_read_as_null_in_expressions_too(browse, store):
    store.add(receive(b'{"event":"x"}', source="webhook", observed_at=1, received_at=1))
    sql = "select coalesce(body, 'nothing') as b, count(body) as n from observations"
    assert browse(f"/retell.json?sql={sql}&_shape=array").json() == [{"b": "nothing", "n": 0}]


def test_pages_follow_a_replaced_file(browse, call, db_path, tmp_path):
    count = "/retell.json?sql=select count(*) from calls&_shape=arrayfirst"
    assert browse(count).json() == [1]
    other = tmp_path / "other.db"
    migrate(other, timezone="UTC")
    for ending in ("-wal", "-shm"):
        db_path.with_name(db_path.name + ending).unlink(missing_ok=True)
    other.rename(db_path)
    assert browse(count).json() == [0]


def test_pages_follow_a_replaced_log(browse, store, db_path):
    count = "/retell.json?sql=select count(*) from calls&_shape=arrayfirst"
    add(store, "call_ended", "a")
    assert browse(count).json() == [1]
    db_path.with_name(f"{db_path.name}-wal").unlink()
    for n in range(5):
        add(store, "call_ended", f"b{n}")
        assert browse(count).json() == [2 + n]


@pytest.mark.parametrize(("session", "niceness"), [("own", [10, 10]), ("shared", [10, 0])])
def test_browse_lowers_priority_of_own_session(session, niceness):
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("waits for Linux with groups of processes by session")
    if os.nice(0):
        pytest.skip("waits for a run without a nice value of its own")
    command = [sys.executable, "-c", LOWER_PRIORITY, session]
    found = subprocess.run(command, capture_output=True, text=True, start_new_session=True)
    assert [int(value) for value in found.stdout.split()] == niceness
