"""Copies without raw bodies, other programs' databases, and files that are none."""

import json
import sqlite3 as standard_sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.errors import CopyWithoutBodies, ForeignDatabase, StoreUnavailable
from receiver.store import Store, migrate
from receiver.store.connection import COPY_ID, WAREHOUSE_ID, FileKind, connect_readonly, file_kind
from tests.support.engines import url_of
from tests.support.running import environment, free_address
from tests.support.storing import add, stored
from tests.support.webhooks import KEY, payload

pytestmark = pytest.mark.sqlite
READERS = (["show", "c"], ["drift"], ["export", "calls"], ["rebuild"], ["coverage"])
WRITERS = (
    ["rebuild"],
    ["migrate"],
    ["sync"],
    ["coverage"],
    ["copy", "--to", "sqlite:///elsewhere.db"],
)


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a command on the database at a path."""
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    monkeypatch.chdir(tmp_path)

    def run(path, *args):
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(path))
        return CliRunner().invoke(main, [str(arg) for arg in args])

    return run


@pytest.fixture
def original(tmp_path):
    """A warehouse with one analysed call."""
    path = tmp_path / "original.db"
    migrate(path, timezone="UTC")
    store = Store(path)
    stored(store, payload("event-call_analyzed"))
    store.close()
    return path


@pytest.fixture
def call_id():
    return payload("event-call_analyzed")["call"]["call_id"]


@pytest.fixture
def copy(original, run, tmp_path):
    """What `callhouse export --to copy.db` makes of it."""
    path = tmp_path / "copy.db"
    assert run(original, "export", "--to", path).exit_code == 0
    return path


def asked(path, sql):
    with closing(standard_sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def utterances(path):
    return asked(path, "SELECT count(*) FROM utterances")[0][0]


def test_files_carry_their_application_id(original, copy):
    assert asked(original, "PRAGMA application_id") == [(WAREHOUSE_ID,)]
    assert asked(copy, "PRAGMA application_id") == [(COPY_ID,)]


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command[0])
def test_commands_that_write_refuse_a_copy(command, copy, run):
    before = copy.read_bytes()
    assert utterances(copy)
    result = run(copy, *command)
    assert result.exit_code == 2
    assert "is a copy without raw bodies" in result.output
    assert "export --private" in result.output
    assert copy.read_bytes() == before


def test_serve_refuses_a_copy(copy):
    with pytest.raises(CopyWithoutBodies):
        migrate(copy, timezone="UTC")
    done = subprocess.run(
        [sys.executable, "-m", "receiver", "serve"],
        env=environment(
            RETELL_API_KEY=KEY, CALLHOUSE_DATABASE_URL=url_of(copy), CALLHOUSE_BIND=free_address()
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, "copy without raw bodies" in done.stderr) == (2, True), done.stderr
    with closing(Store(copy)) as store, pytest.raises(StoreUnavailable, match="without raw"):
        add(store, "call_started")


def test_show_on_a_copy_reports_missing_bodies(copy, run, call_id):
    result = run(copy, "show", call_id)
    assert result.exit_code == 1
    assert "raw bodies are not in this file" in result.output


def test_copy_can_be_exported_and_reports_drift(copy, run, call_id):
    assert call_id in run(copy, "export", "calls").output
    assert run(copy, "drift").exit_code == 0


def test_a_copy_of_an_older_version_is_recognised(copy):
    with closing(standard_sqlite3.connect(copy)) as db:
        db.execute("PRAGMA application_id = 0")
    with closing(connect_readonly(copy)) as connection:
        assert file_kind(connection) is FileKind.COPY


def test_a_private_copy_is_whole(original, run, tmp_path, call_id):
    path = tmp_path / "whole.db"
    assert run(original, "export", "--private", "--to", path).exit_code == 0
    before = utterances(path)
    assert run(path, "rebuild").exit_code == 0
    assert utterances(path) == before
    shown = run(path, "show", call_id)
    assert json.loads(shown.output) == payload("event-call_analyzed")["call"]


def test_database_of_an_older_version_gets_the_id(original):
    with closing(standard_sqlite3.connect(original)) as db:
        db.execute("PRAGMA application_id = 0")
    migrate(original, timezone="UTC")
    assert asked(original, "PRAGMA application_id") == [(WAREHOUSE_ID,)]


@pytest.mark.parametrize(
    "table",
    [
        "notes (number)",
        "calls (number)",
        "_sqlite_migrations (migration_set, name)",
        "_sqlite_migrations (number)",
    ],
)
def test_another_programs_database_is_left_alone(table, tmp_path, run):
    path = tmp_path / "other.db"
    with closing(standard_sqlite3.connect(path)) as db:
        db.execute(f"CREATE TABLE {table}")
    before = path.read_bytes()
    for command in (*WRITERS, *READERS):
        result = run(path, *command)
        assert result.exit_code == 2, command
        assert "database of another program" in result.output, command
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["other.db"]


def test_a_file_with_another_application_id_is_foreign(tmp_path):
    path = tmp_path / "other.db"
    with closing(standard_sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id = 7")
    with pytest.raises(ForeignDatabase):
        migrate(path, timezone="UTC")


@pytest.mark.parametrize("content", [b"name,number\n" * 50, b"%PDF-1.7" + bytes(9000)])
def test_file_that_is_no_database_is_reported(content, tmp_path, run):
    path = tmp_path / "calls.csv"
    path.write_bytes(content)
    for command in (*WRITERS, *READERS):
        result = run(path, *command)
        assert result.exit_code == 2, command
        assert "calls.csv is not a SQLite database" in result.output, command
        assert "damaged" not in result.output
    assert path.read_bytes() == content


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_commands_that_read_never_create_a_database(command, tmp_path, run):
    result = run(tmp_path / "new" / "retell.db", *command)
    assert result.exit_code == 1
    assert "there is no database at" in result.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", READERS, ids=lambda command: command[0])
def test_an_empty_file_holds_no_database(command, tmp_path, run):
    path = tmp_path / "empty.db"
    path.touch()
    result = run(path, *command)
    assert result.exit_code == 1
    assert "there is no database at" in result.output
    assert path.read_bytes() == b""
