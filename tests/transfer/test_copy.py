"""A warehouse is copied from engine to engine while events arrive, and compared."""

import re
from functools import partial

import pytest
import zstandard
from click.testing import CliRunner

import receiver.store.copying
from receiver.cli import main
from receiver.errors import NotStored, StoreUnavailable
from receiver.store import Outcome, migrate, receive
from receiver.store.engine import reading
from receiver.store.erasing import apply_tombstones
from receiver.store.postgres.store import PostgresStore
from receiver.transfer import compare, copy
from schema.tables import TABLES
from tests.support.histories import blank_file, deliver, dump_of, seeded
from tests.support.postgres import execute, looking, name_of
from tests.support.storing import (
    ERASE,
    UPSTREAM,
    add,
    bodies,
    body_of,
    in_store,
    incompressible,
    write,
)
from tests.support.webhooks import PAYLOADS

HISTORY = seeded(7, 40)


@pytest.fixture
def small_portions(monkeypatch):
    """Many portions of few calls, as in a large warehouse."""
    monkeypatch.setattr(receiver.store.copying, "BATCH_IDS", 20)
    monkeypatch.setattr(receiver.store.copying, "BATCH", 8)


def copied(source, target):
    """Copy and compare; what the comparison found, and how many were copied."""
    done = copy(source, target, timezone="UTC", progress=lambda *_: None)
    return compare(source, target, progress=lambda *_: None), done.entities


@pytest.fixture(scope="module")
def full() -> bytes:
    """A file with every kind of row."""

    def work(store):
        for path in sorted(PAYLOADS.glob("*.json"))[::5]:
            store.add(receive(path.read_bytes(), source="webhook", observed_at=5, received_at=6))
        deliver(store, HISTORY)
        for n in range(10):
            add(store, "call_ended", f"call_{n}", transcript=f"Agent: Word {n}.", at=n)

    with blank_file() as path:
        in_store(path, work)
        write(path, *UPSTREAM)
        return path.read_bytes()


@pytest.fixture
def source(full):
    with blank_file() as path:
        path.write_bytes(full)
        yield path


@pytest.fixture(scope="module")
def done(postgres, full):
    """A database to which all of it has been copied."""
    where = postgres.blank()
    with blank_file() as path:
        path.write_bytes(full)
        copy(path, where, timezone="UTC", progress=lambda *_: None)
    return where


@pytest.fixture
def target(postgres, done):
    return postgres.create(name_of(done))


@pytest.mark.slow
def test_wal_of_a_copy_stays_small(tmp_path, monkeypatch):
    """A file that is read meanwhile cannot begin its log anew: it grew to many times the file."""
    monkeypatch.setattr(receiver.store.copying, "BATCH_IDS", 10)
    words = incompressible(20_000)
    with blank_file() as source, blank_file() as target:
        in_store(
            source,
            lambda s: [
                add(s, "call_ended", f"c{n:03}", transcript=f"{n} {words}") for n in range(150)
            ],
        )
        sizes = []

        def measure(*_):
            sizes.append(target.with_name(f"{target.name}-wal").stat().st_size)

        copy(source, target, timezone="UTC", progress=measure)
        portion = target.stat().st_size / 150 * 10
        # SQLite begins the log anew when it has 4 MB.
        assert max(sizes) < 4 * 2**20 + 3 * portion


@pytest.mark.parametrize("kind", ["file", "server"])
def test_copied_call_keeps_its_account(kind, pg):
    body = body_of("call_ended")
    with blank_file() as source, blank_file() as file:
        migrate(source, timezone="UTC", account_keys={"k": "acme"})
        signed = receive(body, source="webhook", observed_at=1, received_at=1, key_id="k")
        in_store(source, lambda store: store.add(signed))
        target = file if kind == "file" else pg
        assert copied(source, target)[1] == 1
        with reading(target) as theirs:
            assert theirs.execute("SELECT account FROM calls").fetchall() == [("acme",)]


def test_copying_back_gives_equal_rows(source, pg, small_portions):
    before = dump_of(source)
    found, count = copied(source, pg)
    assert (found.is_complete, found.ahead) == (True, 0)
    assert count == len({row[0] for row in before["observations"]})
    assert dump_of(pg) == dump_of(source) == before
    with blank_file() as path:
        assert copied(pg, path)[0].is_complete
        assert dump_of(path) == before
        assert bodies(path) == bodies(pg) == bodies(source)
    assert found.rows == {table.name: len(before[table.name]) for table in TABLES}


def test_a_copy_repeated_carries_nothing_and_changes_nothing(source, target):
    before = dump_of(target)
    assert copied(source, target)[1] == 0
    assert dump_of(target) == before


def test_a_target_that_is_not_there_is_made(source, tmp_path):
    found, _ = copied(source, tmp_path / "new" / "retell.db")
    assert found.is_complete
    assert dump_of(tmp_path / "new" / "retell.db") == dump_of(source)


def test_missing_source_creates_no_target(tmp_path):
    with pytest.raises(NotStored):
        copied(tmp_path / "nowhere.db", tmp_path / "new.db")
    assert not list(tmp_path.iterdir())


def test_interrupted_copy_continues_where_it_stopped(source, pg, small_portions, monkeypatch):
    run, tries = PostgresStore.run, []

    def run_three_times(store, unit):
        tries.append(unit)
        if len(tries) > 3:
            raise StoreUnavailable("the server is away")
        return run(store, unit)

    monkeypatch.setattr(PostgresStore, "run", run_three_times)
    with pytest.raises(StoreUnavailable):
        copied(source, pg)
    done = {row[0] for row in dump_of(pg)["observations"]}
    assert len(done) == 20
    assert dump_of(pg)["calls"]
    monkeypatch.setattr(PostgresStore, "run", run)
    found, count = copied(source, pg)
    assert found.is_complete
    assert count == len({row[0] for row in dump_of(source)["observations"]} - done)
    assert dump_of(pg) == dump_of(source)


def test_next_pass_copies_events_that_arrived_meanwhile(source, pg, monkeypatch):
    put, rounds = receiver.store.copying._write, []

    def put_and_receive(*arguments):
        result = put(*arguments)
        if not rounds:
            rounds.append(1)
            # Of a call that has just been copied, and of one whose portion is over.
            in_store(source, lambda s: add(s, "call_analyzed", "call_1", at=20))
            in_store(source, lambda s: add(s, "call_ended", "a new one"))
        return result

    monkeypatch.setattr(receiver.store.copying, "_write", put_and_receive)
    found, _ = copied(source, pg)
    assert (rounds, found.is_complete) == ([1], True)
    assert dump_of(pg) == dump_of(source)


def test_second_run_copies_events_between_two_runs(source, target):
    in_store(source, lambda s: add(s, "call_analyzed", "call_1", at=20, transcript="User: New."))
    in_store(source, lambda s: add(s, "call_ended", "call_new"))
    # The same once more: nothing but a count and a time.
    again = partial(add, event="call_ended", call_id="call_2", at=2, transcript="Agent: Word 2.")
    assert in_store(source, lambda s: again(s, received=99)) is Outcome.DUPLICATE
    write(source, "UPDATE upstream_calls SET asked_at = 8 WHERE call_id = 'c'")
    found = compare(source, target, progress=lambda *_: None)
    assert (found.behind, found.ahead, found.different) == (4, 0, {})
    found, count = copied(source, target)
    assert (found.is_complete, count) == (True, 3)
    assert dump_of(target) == dump_of(source)


def test_a_call_erased_at_either_side_stays_erased(source, target):
    erased = [(source, "call_1", 1), (target, "call_2", 1), (source, "call_3", 4)]
    for where, *erasure in [*erased, (target, "call_3", 5)]:
        in_store(where, lambda s, e=erasure: s.run(lambda c: c.execute(ERASE, e) and None))
    write(source, "INSERT INTO annotations (entity_id, annotation_id) VALUES ('call_2', 'a')")
    # Delivered again to the side that does not know of it.
    in_store(source, lambda s: add(s, "call_analyzed", "call_2", at=20, transcript="User: Secret."))
    assert copied(source, target)[1] == 3
    assert copied(source, target)[1] == 0
    found = dump_of(target)
    at = {"call_1": 1, "call_2": 1, "call_3": 4}
    assert {row[0]: row[2] for row in found["erasures"]} == at
    kept = [row for row in found["observations"] if row[0] in at]
    assert len(kept) == 4
    # Hash and times: no event, level, key, length, problem or body.
    assert {(*row[4:6], *row[10:]) for row in kept} == {(None, None, None, None, None, False)}
    for table in ("calls", "transcripts", "annotations"):
        assert not at.keys() & {row[0] for row in found[table]}


# Rows of a call that no observation has.
NOTE = (
    "INSERT INTO annotations VALUES ('{0}', 'n', 'note', NULL, NULL, NULL, 'Ann', 'a', 1, 9, NULL)"
)
FILE = (
    "INSERT INTO media_files (call_id, kind, url, location, state, changed_at) "
    "VALUES ('{0}', 'recording', 'https://x', 'y', 'kept', 9)"
)
LINK = "INSERT INTO share_links (call_id, link_id) VALUES ('{0}', 'l')"
WAITING = "INSERT INTO outbox VALUES ('{0}', 'x', 't', 1, NULL, NULL, 'waiting', 0, 1, NULL)"


def own_rows(where, call_id):
    """What is stored of a call beside its observations and what is projected from them."""
    with reading(where) as connection:
        return [
            connection.execute(f"SELECT {column} FROM {table}", (call_id,)).fetchall()
            for column, table in (
                ("value", "annotations WHERE entity_id = ?"),
                ("state, url, location", "media_files WHERE call_id = ?"),
                ("link_id", "share_links WHERE call_id = ?"),
                ("state", "outbox WHERE entity_id = ?"),
            )
        ]


@pytest.mark.parametrize(
    ("scope", "left"),
    [
        ("all", [[], [], [], []]),
        ("personal", [[(None,)], [("pruned", None, None)], [("l",)], []]),
        ("recordings", [[("Ann",)], [("pruned", None, None)], [("l",)], [("waiting",)]]),
    ],
)
def test_erasure_is_applied_to_the_targets_own_rows(source, target, scope, left):
    execute(target, *(row.format("call_1") for row in (NOTE, FILE, LINK, WAITING)))
    in_store(source, lambda s: apply_tombstones(s, [("call_1", scope, 10, None, None)]))
    copy(source, target, timezone="UTC", progress=lambda *_: None)
    assert own_rows(target, "call_1") == left


@pytest.mark.parametrize(
    ("scope", "left"),
    [("personal", [[], [], [("l",)], []]), ("recordings", [[("Ann",)], [], [("l",)], []])],
)
def test_what_the_target_has_pruned_is_not_copied(source, target, scope, left):
    in_store(target, lambda s: apply_tombstones(s, [("call_1", scope, 10, None, None)]))
    write(source, *(row.format("call_1") for row in (NOTE, FILE, LINK)))
    found, _ = copied(source, target)
    assert found.is_complete
    assert own_rows(target, "call_1") == left


def test_target_rows_are_kept_and_merged(source, pg):
    """As after the switch: receivers write to the target while the rest is still copied."""

    def receive_theirs(store):
        deliver(store, seeded(9, 30))
        add(store, "call_ended", "zz", disconnection_reason="of_tomorrow")

    in_store(pg, receive_theirs)
    with blank_file() as path:
        in_store(path, lambda s: deliver(s, HISTORY))
        found, _ = copied(path, pg)
        assert (found.is_complete, found.ahead) == (True, 3)
        assert copied(path, pg)[1] == 0
        both = dump_of(pg)
        in_store(path, receive_theirs)
        expected = dump_of(path)
    # How often the same arrived at both is not known.
    for rows in (both, expected):
        rows["observations"] = [row[:9] + row[10:] for row in rows["observations"]]
    assert both == expected


def test_newer_row_wins_without_observations(source, target):
    with looking(target) as session:
        session.raw.execute("UPDATE upstream_calls SET gone_at = 9 WHERE call_id = 'c'")
        session.raw.execute("UPDATE coverage SET listed = 5, checked_at = 10")
    write(source, "UPDATE syncs SET next_day = 'y'", "UPDATE coverage SET listed = 4")
    found, _ = copied(source, target)
    assert (found.is_complete, found.ahead) == (True, 2)
    stored = dump_of(target)
    assert next(row[:3] for row in stored["upstream_calls"]) == ("c", 5, 9)
    assert [row[4] for row in stored["syncs"]] == ["y"]
    assert [row[3] for row in stored["coverage"]] == [5]


def test_newer_annotation_wins_and_removal_is_copied(source, target):
    put = "INSERT INTO annotations VALUES ('call_1', '{}', 'tag', NULL, NULL, {}, NULL, 'a', 1, {})"
    write(source, put.format("a", "'billing'", "1, NULL"), put.format("b", "NULL", "9, 9"))
    theirs = [put.format("a", "'angry'", "2, NULL"), put.format("b", "'late'", "8, NULL")]
    execute(target, *theirs)
    found, _ = copied(source, target)
    assert found.is_complete
    found = {row[1]: (row[5], row[9]) for row in dump_of(target)["annotations"]}
    assert found == {"a": ("angry", 2), "b": (None, 9)}


DIFFERENCES = {
    "calls": "UPDATE calls SET agent_name = 'Mallory' WHERE call_id = 'call_1'",
    "transcripts": "DELETE FROM transcripts WHERE call_id = 'call_1'",
    "attributes": "INSERT INTO attributes VALUES ('call_1', 'x', 'x', 'x', 'x')",
    "observations": "UPDATE observations SET body = 'x' WHERE entity_id = 'call_1'",
    "disconnection_reasons": "UPDATE disconnection_reasons SET category = 'x' "
    "WHERE reason = 'user_hangup'",
    "coverage": "UPDATE coverage SET listed = 4",
}


def test_a_planted_difference_is_found_in_its_table(source, done, postgres):
    for table, statement in DIFFERENCES.items():
        other = postgres.create(name_of(done))
        with looking(other) as session:
            session.raw.execute(statement)
        found = compare(source, other, progress=lambda *_: None)
        assert (found.is_complete, found.different) == (False, {table: 1})


def test_differently_compressed_bodies_are_equal(source, target):
    body = body_of("call_ended", "call_1", transcript="Agent: Word 1.")
    again = zstandard.ZstdCompressor(write_checksum=True).compress(body)
    assert again not in [row[2] for row in bodies(source)]
    with looking(target) as session:
        session.execute("UPDATE observations SET body = ? WHERE entity_id = 'call_1'", (again,))
    assert compare(source, target, progress=lambda *_: None).is_complete


def test_body_lost_at_the_target_is_copied_again(source, target):
    with looking(target) as session:
        session.raw.execute("UPDATE observations SET body = NULL WHERE entity_id = 'call_1'")
    found, count = copied(source, target)
    assert (found.is_complete, count) == (True, 1)
    assert dump_of(target) == dump_of(source)


def test_rows_too_long_for_indexes_are_reported(pg):
    long = incompressible(5000)
    with blank_file() as path:
        in_store(path, lambda s: add(s, "call_ended", long))
        in_store(path, lambda s: add(s, "call_ended", "call_long", disconnection_reason=long))
        in_store(path, lambda s: add(s, "call_ended", "sound"))
        done = copy(path, pg, timezone="UTC", progress=lambda *_: None)
        found = compare(path, pg, progress=lambda *_: None)
    assert (done.entities, done.refused, found.behind) == (2, 1, 1)
    assert found.different == {"observations": 1, "calls": 1, "unknowns": 1}
    assert [row[0] for row in dump_of(pg)["calls"]] == ["sound"]


# -- as a person types it --------------------------------------------------------------------------


def run(*arguments, status=0):
    result = CliRunner().invoke(main, ["copy", *map(str, arguments)])
    assert result.exit_code == status, (result.output, result.exception)
    return result.output


def test_command_copies_compares_and_prints_differences(source, pg, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{source}")
    output = run("--to", pg.url)
    assert re.search(r"^calls +\d+  the same$", output, re.M)
    assert "rows of 33 tables compared: no differences." in output
    with looking(pg) as session:
        session.raw.execute(DIFFERENCES["calls"])
    output = run("--to", pg.url, status=1)
    assert re.search(r"^calls +\d+  1 differ$", output, re.M)
    assert "Tables that differ: calls." in output
    assert "Mallory" not in output


def test_a_database_is_not_copied_onto_itself(source, pg, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{source}")
    again = source.parent / "." / ".." / source.parent.name / source.name
    assert "names the database" in run("--to", f"sqlite:///{again}", status=2)
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", pg.url)
    assert "names the database" in run("--to", pg.url, status=2)
    assert "it must be" in run("--to", "mysql://x", status=2)


def test_unreachable_target_stops_copy_with_hint(source, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{source}")
    output = run("--to", "postgresql://callhouse@127.0.0.1:1/x", status=1)
    assert "Error: the copy stopped: no connection to the server: nothing listens" in output
    assert "it continues where it stopped" in output


@pytest.mark.parametrize("sound", [0.1, 0.9], ids=["almost all", "a little"])
def test_damaged_source_stops_copy_without_traceback(source, pg, monkeypatch, sound):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{source}")
    size = source.stat().st_size
    with source.open("r+b") as file:
        begin = file.seek(round(size * sound))
        file.write(b"\xff" * (size - begin))
    output = run("--to", pg.url, status=1)
    assert f"Error: the copy stopped: {source} cannot be read: " in output
    assert "database disk image is malformed" in output
