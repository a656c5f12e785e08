"""A file follows a database on a server: news at once, everything else after a while."""

import re
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import psycopg
import pytest
from click.testing import CliRunner

import receiver.store.copying
from receiver import config
from receiver.cli import main
from receiver.errors import NotStored
from receiver.store import migrate, rebuild, receive
from receiver.store.connection import connect
from receiver.transfer import copy, mirror
from schema.tables import TABLES
from tests.support import ROOT, running
from tests.support.browsing import add_users, visiting
from tests.support.engines import url_of
from tests.support.erasing import erased, files_with
from tests.support.histories import deliver, dump_of, seeded
from tests.support.postgres import cluster, name_of
from tests.support.running import wait_until
from tests.support.storing import UPSTREAM, add, bodies, in_store
from tests.support.webhooks import NOW_MS, PAYLOADS

HISTORY = seeded(11, 40)
MINUTE_MS = 60_000
RESUMED = "Reconnected; mirroring resumed."


@pytest.fixture(autouse=True)
def small_portions(monkeypatch):
    """Many portions of few calls, as in a large warehouse."""
    monkeypatch.setattr(receiver.store.copying, "BATCH_IDS", 10)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "mirror.db"


@pytest.fixture(scope="module")
def filled(postgres):
    """A server's database with every kind of row."""
    where = postgres.blank()

    def work(store):
        for path in sorted(PAYLOADS.glob("*.json"))[::2]:
            store.add(receive(path.read_bytes(), source="webhook", observed_at=5, received_at=6))
        deliver(store, HISTORY)
        for n in range(20):
            add(store, "call_ended", f"call_{n:02}", transcript=f"Agent: Word {n}.", at=n)
        for statement in UPSTREAM:
            store.run(lambda connection, sql=statement: connection.execute(sql) and None)

    in_store(where, work)
    return where


@pytest.fixture
def full(postgres, filled):
    return postgres.create(name_of(filled))


@contextmanager
def mirrored(source, target, *, now=NOW_MS):
    """Yield a function that takes a step, after a first look through everything."""
    with closing(mirror(source, target, timezone="UTC", now_ms=lambda: now)) as steps:
        through(lambda: next(steps))
        yield lambda: next(steps)


def through(step):
    """Take steps to the end of a look through all ids; return how many were copied."""
    count = 0
    while True:
        done = step()
        count += done.copied
        if done.is_last:
            return count


def rows_of(path, query):
    with closing(connect(path, busy_timeout_ms=5000)) as db:
        return db.execute(query).fetchall()


def receive_at(where, call_id, *, received, event="call_ended", **fields):
    in_store(where, lambda s: add(s, event, call_id, at=1, received=received, **fields))


def run_in(where, statement, *values):
    in_store(where, lambda s: s.run(lambda c: c.execute(statement, values) and None))


def test_mirror_has_the_servers_rows_and_bodies(full, target):
    with mirrored(full, target):
        pass
    found = dump_of(full)
    assert dump_of(target) == found
    assert bodies(target) == bodies(full)
    # A table without rows would be like any other.
    assert {t.name for t in TABLES if not found[t.name]} <= {
        "account_keys",
        "alerts",
        "annotations",
        "erasures",
        "media_files",
        "receipts",
        "retell_alerts",
        "saved_views",
        "share_links",
        "statements",
    }


@pytest.mark.slow
def test_second_mirror_finds_nothing_to_copy(full, target):
    with mirrored(full, target):
        pass
    steps = mirror(full, target, timezone="UTC", now_ms=lambda: NOW_MS)
    with closing(steps):
        assert through(lambda: next(steps)) == 0


@pytest.mark.slow
def test_new_events_are_mirrored_in_one_step(full, target):
    with mirrored(full, target) as step:
        # The first portion holds neither.
        receive_at(full, "zz", received=NOW_MS, transcript="User: New.")
        receive_at(full, "call_07", received=NOW_MS, event="call_analyzed", agent_name="Later")
        assert not step().is_last
        assert dump_of(target) == dump_of(full)
        assert step().copied == 0


@pytest.mark.slow
def test_rows_without_a_call_are_mirrored(full, target):
    """The same body once more, a body that is none, what was asked of Retell."""
    with mirrored(full, target) as step:
        in_store(
            full,
            lambda s: add(
                s, "call_ended", "call_19", at=19, received=NOW_MS, transcript="Agent: Word 19."
            ),
        )
        in_store(
            full,
            lambda s: s.add(receive(b"{", source="webhook", observed_at=1, received_at=NOW_MS)),
        )
        run_in(full, "INSERT INTO upstream_calls VALUES ('zz asked', ?, NULL)", NOW_MS)
        run_in(full, "INSERT INTO upstream_calls VALUES ('zz gone', NULL, ?)", NOW_MS)
        run_in(full, "UPDATE coverage SET listed = 4, checked_at = ?", NOW_MS)
        assert not step().is_last
        assert dump_of(target) == dump_of(full)


def test_call_erased_at_server_is_erased_in_mirror(full, target):
    settings = config.load({"CALLHOUSE_DATABASE_URL": url_of(full)})
    with mirrored(full, target) as step:
        receive_at(full, "call_15", received=NOW_MS, transcript="User: Xanthochroid words.")
        assert not step().is_last
        in_store(full, lambda s: erased(settings, s, "call_15", now_ms=lambda: NOW_MS))
        assert not step().is_last
        # Beside the mirror, which has the file open; the index of words has them in lower case.
        assert files_with(target.parent, "Xanthochroid", "xanthochroid") == set()
    with closing(connect(target, busy_timeout_ms=1000)) as db:
        for table, column in (("calls", "call_id"), ("transcripts", "call_id")):
            query = f"SELECT count(*) FROM {table} WHERE {column} = 'call_15'"
            assert db.execute(query).fetchone() == (0,)
        kept = "SELECT count(*), count(body) FROM observations WHERE entity_id = 'call_15'"
        assert db.execute(kept).fetchone() == (2, 0)


@pytest.mark.slow
def test_rows_deleted_without_a_tombstone_leave_the_mirror(full, target):
    with mirrored(full, target) as step:
        ids = ("call_03", "call_04")
        for table in ("transcripts", "calls", "observations"):
            column = "entity_id" if table == "observations" else "call_id"
            run_in(full, f"DELETE FROM {table} WHERE {column} IN (?, ?)", *ids)
        # One of several observations of a call; and rows that are about no call.
        receive_at(full, "call_05", received=1, event="call_started", agent_name="Ann")
        through(step)
        assert ("Ann",) in rows_of(target, "SELECT agent_name FROM calls WHERE agent_name = 'Ann'")
        run_in(full, "DELETE FROM observations WHERE entity_id = 'call_05' AND level = 1")
        for table in ("upstream_calls", "syncs", "coverage"):
            run_in(full, f"DELETE FROM {table}")
        in_store(full, lambda s: rebuild(s, progress=lambda *_: None))
        through(step)
        assert dump_of(target) == dump_of(full)
        assert through(step) == 0


@pytest.mark.slow
def test_file_not_made_by_mirror_keeps_rows(full, target):
    migrate(target, timezone="UTC")
    in_store(target, lambda s: add(s, "call_ended", "elsewhere"))
    with mirrored(full, target) as step:
        through(step)
    assert rows_of(target, "SELECT call_id FROM calls WHERE call_id = 'elsewhere'")


@pytest.mark.slow
def test_row_committed_minutes_late_is_copied_at_once(full, target):
    """A receiver whose clock is behind, or one that had to wait for its transaction."""
    with mirrored(full, target) as step:
        receive_at(full, "zz", received=NOW_MS)
        step()
        receive_at(full, "zy", received=NOW_MS - 4 * MINUTE_MS)
        step()
        assert dump_of(target) == dump_of(full)


@pytest.mark.slow
def test_rows_with_old_times_are_found_by_pass(full, target, db_path):
    with mirrored(full, target) as step:
        receive_at(db_path, "zz from elsewhere", received=5)
        copy(db_path, full, timezone="UTC", progress=lambda *_: None)
        assert step().copied == 0
        assert through(step) == 1
        assert dump_of(target) == dump_of(full)


@pytest.mark.slow
def test_mirror_after_hours_copies_new_events_first(full, target):
    receive_at(full, "call_00", received=NOW_MS - 600 * MINUTE_MS, event="call_analyzed")
    with mirrored(full, target):
        pass
    receive_at(full, "zz", received=NOW_MS - 300 * MINUTE_MS)
    with closing(mirror(full, target, timezone="UTC", now_ms=lambda: NOW_MS)) as steps:
        assert not next(steps).is_last
        assert dump_of(target) == dump_of(full)


@pytest.mark.slow
def test_stopped_mirror_is_completed_by_the_next(full, target):
    with closing(mirror(full, target, timezone="UTC", now_ms=lambda: NOW_MS)) as steps:
        next(steps)
    assert 0 < len(dump_of(target)["calls"]) < len(dump_of(full)["calls"])
    with mirrored(full, target):
        assert dump_of(target) == dump_of(full)


def test_server_without_tables_creates_no_file(postgres, target):
    with pytest.raises(NotStored):
        next(mirror(postgres.create(), target, timezone="UTC", now_ms=lambda: NOW_MS))
    assert not target.exists()


def test_pages_of_mirror_equal_those_of_file(pg, target, settings, db_path):
    """The same deliveries to a file and to the server; to a reader, as nobody reviews on a mirror
    without its server."""
    events = [
        receive(path.read_bytes(), source="webhook", observed_at=5, received_at=NOW_MS)
        for path in sorted(PAYLOADS.glob("*.json"))[::4]
    ]
    for where in (db_path, pg):
        in_store(where, lambda s: [s.add(received) for received in events])
    with mirrored(pg, target):
        pass
    calls = [row[0] for row in dump_of(db_path)["calls"]]
    tables = ("/tool_scorecard", "/daily_summary", "/calls?_sort=call_id")
    pages = [*(f"/retell{table}" for table in tables), *(f"/-/call/{id}" for id in calls[::3])]
    answers = []
    for path in (db_path, target):
        add_users(path, {"jane": "reader"})
        with visiting(replace(settings, database=path), user="jane") as get:
            answers.append({page: shown(get(page)) for page in pages})
    ours, theirs = answers
    assert len(calls) > 20
    for page in pages:
        assert ours[page] == theirs[page]


def shown(answer):
    """A page without what differs from one visit to the next."""
    assert answer.status_code == 200
    return re.sub(r'nonce="[^"]*"|value="[\w.-]{40,}"|Queries took [0-9.]+ms', "", answer.text)


def test_printed_sql_for_grafana_runs(full):
    page = (ROOT / "docs/how-to/postgres.md").read_text(encoding="utf-8")
    _, browsing = page.split("## Connect Grafana or Metabase")
    role, panel = re.findall(r"```sql\n(.*?)```", browsing, re.DOTALL)
    with psycopg.connect(full.url, autocommit=True) as owner:
        owner.execute(role, prepare=False)
        try:
            owner.execute("SET ROLE analyst")
            calls = sum(row[2] for row in owner.execute(panel))
            assert calls == sum(row[0] for row in owner.execute("SELECT calls FROM daily_summary"))
            assert calls > 30
            for closed in ("calls", "observations", "transcripts", "call_log"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    owner.execute(f"SELECT * FROM {closed}")
        finally:
            owner.execute("RESET ROLE")
            owner.execute("DROP OWNED BY analyst")
            owner.execute("DROP ROLE analyst")


# -- as a person types it --------------------------------------------------------------------------


def run(*arguments, status=0):
    result = CliRunner().invoke(main, ["mirror", *map(str, arguments)])
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def test_once_stops_and_prints_how_to_browse(full, target, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", full.url)
    output = run("--to", target, "--once")
    assert dump_of(target) == dump_of(full)
    count = len({row[0] for row in dump_of(full)["observations"]})
    assert f"All {count} calls, chats and other entities are copied." in output
    assert f"CALLHOUSE_DATABASE_URL=sqlite:///{target} callhouse browse" in output


def test_a_file_needs_no_mirror(settings, target, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{settings.database}")
    assert "only a database on a server needs a mirror" in run("--to", target, status=2)


def test_once_without_the_server_it_fails(target, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", "postgresql://callhouse@127.0.0.1:1/x")
    assert "Error: no connection to the server: nothing listens there" in run(
        "--to", target, "--once", status=1
    )


@pytest.mark.slow
def test_a_server_that_was_away_is_followed_again(target):
    with cluster(durable=True) as server:
        where = server.blank()
        environ = running.environment(CALLHOUSE_DATABASE_URL=where.url)
        with running.mirror(environ, target.parent) as following:
            server.kill()
            wait_until(lambda: "; retrying" in following.output())
            server.start()
            receive_at(where, "zz", received=time.time_ns() // 1_000_000)
            wait_until(lambda: dump_of(target)["calls"] and RESUMED in following.output())
            following.process.terminate()
            assert following.process.wait(20) == 0
        assert following.output().count("; retrying") == 1
        assert following.output().count(RESUMED) == 1
        assert dump_of(target) == dump_of(where)
