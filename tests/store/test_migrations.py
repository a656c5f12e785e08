"""The file's schema: from blank and from every older version to the newest, once, or not at all."""

import fcntl
import importlib
import json
import multiprocessing
import re
import threading
from contextlib import closing
from pathlib import Path

import pytest

from receiver.errors import SchemaMismatch, StoreUnavailable
from receiver.store import Store, migrate, rebuild, receive, show
from receiver.store.connection import connect, sqlite3
from receiver.store.sql import SEARCH_INDEXES
from schema.disconnection_reasons import REASONS
from schema.sql.views import views
from schema.tables import ALL_TABLES, ROLLUP_TABLES, TABLES
from tests.support import ROOT
from tests.support.tables import FIRST_COLUMNS, dump
from tests.support.webhooks import PAYLOADS

# tests/store/postgres/test_schema.py is about those of a server.
pytestmark = pytest.mark.sqlite
DATABASES = sorted((ROOT / "tests" / "databases").glob("*.sql"))
MIGRATIONS = sorted((ROOT / "schema" / "sql" / "migrations").glob("*.sql"))
# The package gives the same name to the function in it.
MIGRATE = importlib.import_module("receiver.store.migrate")


@pytest.fixture
def path(tmp_path) -> Path:
    """Where there is no file yet."""
    return tmp_path / "retell.db"


def opened(path, *, create=False):
    return closing(connect(path, busy_timeout_ms=5000, create=create))


def schema_of(path) -> list[tuple]:
    with opened(path) as db:
        return db.execute("SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()


def dump_of(path):
    with opened(path) as db:
        return dump(db)


def load(path, script) -> None:
    """Make the file of an older version from its SQL."""
    with opened(path, create=True) as db:
        db.executescript(script.read_text(encoding="utf-8"))


# -- the newest schema ---------------------------------------------------------------------------


def test_new_file_has_the_described_tables_and_columns(db):
    for table in ALL_TABLES:
        found = db.execute(f"PRAGMA table_info({table.name})").fetchall()
        assert tuple(column["name"] for column in found) == table.names, table.name
        keys = sorted((c["pk"], c["name"]) for c in found if c["pk"])
        assert tuple(name for _, name in keys) == table.key, table.name


def test_every_table_of_the_file_is_described(db):
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    ours = {
        name
        for (name,) in map(tuple, found)
        if not name.startswith(("_", "sqlite_", *SEARCH_INDEXES, "characters_terms"))
    }
    assert ours == {table.name for table in ALL_TABLES}


def test_every_table_is_strict(db):
    strict = {row["name"]: row["strict"] for row in db.execute("PRAGMA table_list")}
    assert {table.name for table in ALL_TABLES if not strict[table.name]} == set()


def test_everything_but_the_keys_is_nullable(db):
    for table in ALL_TABLES:
        for column in db.execute(f"PRAGMA table_info({table.name})"):
            assert bool(column["notnull"]) is (column["name"] in table.key), table.name


def test_every_key_begins_with_the_column_that_distributes(db):
    for table in TABLES:
        assert table.key[0] in FIRST_COLUMNS, table.name
        for index in db.execute(f"PRAGMA index_list({table.name})"):
            if index["unique"]:
                first = db.execute(f"PRAGMA index_info({index['name']})").fetchone()
                assert first["name"] in FIRST_COLUMNS, index["name"]
        for key in db.execute(f"PRAGMA foreign_key_list({table.name})"):
            assert (key["seq"], key["from"], key["to"]) == (0, key["to"], table.key[0]), table.name


def test_child_rows_refer_to_their_call_or_chat(db):
    parents = {
        table.name: [tuple(k)[2:5] for k in db.execute(f"PRAGMA foreign_key_list({table.name})")]
        for table in TABLES
    }
    alone = {"observations", "calls", "chats", "disconnection_reasons", "erasures"}
    alone |= {"account_keys", "receipts", "media_files"}
    alone |= {"annotations", "share_links", "saved_views", "statements"}
    alone |= {"alerts", "retell_alerts"}
    alone |= {"upstream_calls", "syncs", "coverage"}
    for name, found in parents.items():
        if name in alone:
            assert found == []
        elif name in {"chat_messages", "chat_unknowns"}:
            assert found == [("chats", "chat_id", "chat_id")]
        else:
            assert found == [("calls", "call_id", "call_id")], name


def test_rollups_are_deleted_with_their_hour_or_day(db):
    for table in ROLLUP_TABLES:
        span = table.key[0]
        parent = f"rollup_{span}s"
        keys = db.execute(f"PRAGMA foreign_key_list({table.name})").fetchall()
        found = [(*tuple(key)[2:5], key["on_delete"]) for key in keys]
        if table.name != parent:
            assert table.key == (span, "position")
            assert found == [(parent, span, span, "CASCADE")], table.name


def test_nothing_counts_up_and_nothing_reads_a_clock(db):
    found = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
    ours = "\n".join(sql for (sql,) in map(tuple, found) if "_sqlite_migrations" not in sql)
    code = re.sub(r"--.*", "", ours)
    assert not re.search(r"\b(AUTOINCREMENT|RANDOM)\b", code, re.I)
    assert not re.search(r"\bnow\b|\bCURRENT_(TIME|DATE)|\bunixepoch\(\s*\)", code, re.I)


def test_triggers_keep_the_search_indexes_and_nothing_else(db):
    triggers = db.execute("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'")
    assert {tuple(row) for row in triggers} == {
        (f"{table}_{of}_{event}", table)
        for table, of in (
            ("transcripts", "fts"),
            ("transcripts", "search"),
            ("analyses", "search"),
            ("chats", "search"),
        )
        for event in ("insert", "update", "delete")
    }


def test_reasons_are_seeded(db):
    found = {
        row["reason"]: tuple(row)[1:] for row in db.execute("SELECT * FROM disconnection_reasons")
    }
    assert found == REASONS
    assert found["user_hangup"] == ("user", "The user hung up.")


# -- applying ------------------------------------------------------------------------------------


def test_migrate_creates_the_file_and_lists_migrations(tmp_path):
    path = tmp_path / "new" / "folder" / "retell.db"
    assert migrate(path, timezone="UTC") == [script.stem for script in MIGRATIONS]
    assert path.exists()


def test_migrating_twice_changes_nothing(path):
    migrate(path, timezone="UTC")
    with opened(path) as db:
        versions = "PRAGMA schema_version", "PRAGMA data_version"
        before = [db.execute(sql).fetchone() for sql in versions], dump(db)
        assert migrate(path, timezone="UTC") == []
        assert ([db.execute(sql).fetchone() for sql in versions], dump(db)) == before


def test_migrate_gives_known_reasons_their_meaning_again(path):
    migrate(path, timezone="UTC")
    with opened(path) as db:
        db.execute("UPDATE disconnection_reasons SET category = 'unknown', description = NULL")
        db.execute("INSERT INTO disconnection_reasons VALUES ('of_tomorrow', 'unknown', 'x')")
    migrate(path, timezone="UTC")
    with opened(path) as db:
        found = {r: (c, d) for r, c, d in db.execute("SELECT * FROM disconnection_reasons")}
    assert found == REASONS | {"of_tomorrow": ("unknown", "x")}


def test_other_migrations_in_the_file_do_not_matter(path):
    migrate(path, timezone="UTC")
    with opened(path) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('other', '0007_x')"
        )
    assert migrate(path, timezone="UTC") == []


def test_file_of_a_newer_version_is_refused_unchanged(path):
    migrate(path, timezone="UTC")
    with opened(path) as db:
        db.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('callhouse', '9999_new')"
        )
    schema, rows = schema_of(path), dump_of(path)
    with pytest.raises(SchemaMismatch, match="9999_new"):
        migrate(path, timezone="Asia/Tokyo")
    assert (schema_of(path), dump_of(path)) == (schema, rows)
    store = Store(path)
    with pytest.raises(SchemaMismatch):
        store.add(receive(b"{}", source="webhook", observed_at=1, received_at=1))
    store.close()


def test_receiver_refuses_a_file_that_is_behind(path, monkeypatch):
    migrate(path, timezone="UTC")
    add_migration(monkeypatch, "CREATE TABLE later (call_id TEXT PRIMARY KEY) STRICT;")
    store = Store(path)
    body = receive(b"{}", source="webhook", observed_at=1, received_at=1)
    with pytest.raises(StoreUnavailable):
        store.add(body)
    assert migrate(path, timezone="UTC") == ["9999_next"]
    store.add(body)
    store.close()


def add_migration(monkeypatch, script) -> None:
    scripts = MIGRATE.scripts() | {"9999_next": script}
    monkeypatch.setattr(MIGRATE, "scripts", lambda: scripts)


BROKEN = """
CREATE TABLE half (call_id TEXT PRIMARY KEY) STRICT;
ALTER TABLE calls ADD COLUMN half TEXT;
UPDATE calls SET agent_name = 'half';
INSERT INTO no_such_table VALUES (1);
"""


def test_folder_that_cannot_be_created_is_reported(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnavailable, match="cannot be written: ") as caught:
        migrate(tmp_path / "file" / "retell.db", timezone="UTC")
    assert "CALLHOUSE_DATABASE_URL" in caught.value.hint


def test_failed_migration_leaves_the_file_unchanged(path, monkeypatch):
    load(path, DATABASES[-1])
    schema, rows = schema_of(path), dump_of(path)
    with monkeypatch.context() as patch:
        add_migration(patch, BROKEN)
        with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
            migrate(path, timezone="Asia/Tokyo")
    assert (schema_of(path), dump_of(path)) == (schema, rows)
    assert migrate(path, timezone="UTC") == []


def test_failed_migration_leaves_a_new_file_empty(path, monkeypatch):
    with monkeypatch.context() as patch:
        add_migration(patch, BROKEN)
        with pytest.raises(sqlite3.OperationalError, match="no_such_table"):
            migrate(path, timezone="UTC")
    assert schema_of(path) == []
    assert migrate(path, timezone="UTC") == [script.stem for script in MIGRATIONS]


def migrate_in_turn(path, barrier, results) -> None:
    barrier.wait(timeout=60)
    results.put(migrate(path, timezone="UTC"))


@pytest.mark.slow
def test_eight_processes_migrate_a_new_file(path):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["receiver.store"])
    barrier, results = context.Barrier(8), context.Queue()
    processes = [
        context.Process(target=migrate_in_turn, args=(path, barrier, results)) for _ in range(8)
    ]
    for process in processes:
        process.start()
    applied = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0] * 8
    assert sorted(applied) == [[]] * 7 + [[script.stem for script in MIGRATIONS]]
    with opened(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_migrate_waits_for_another_that_has_begun(path):
    with path.with_name("retell.db.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=migrate, args=(path,), kwargs={"timezone": "UTC"})
        waiting.start()
        waiting.join(timeout=0.2)
        assert waiting.is_alive()
        assert not path.exists()
    waiting.join(timeout=30)
    assert path.exists()


# -- older versions ------------------------------------------------------------------------------


def test_every_version_has_its_file_with_rows():
    """`python tests/databases/write.py` writes the newest."""
    assert [script.stem for script in DATABASES] == [script.stem for script in MIGRATIONS]


@pytest.fixture(scope="module")
def new(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("new") / "retell.db"
    migrate(path, timezone="UTC")
    return path


@pytest.fixture(scope="module", params=DATABASES, ids=lambda path: path.stem)
def older(request, tmp_path_factory) -> Path:
    """A file of an older version after its migration; the tests leave its rows as they are."""
    path = tmp_path_factory.mktemp("older") / "retell.db"
    load(path, request.param)
    migrate(path, timezone="UTC")
    return path


def test_older_version_migrates_to_the_new_schema(older, new):
    assert schema_of(older) == schema_of(new)


KEPT = {
    "call": "event-call_analyzed",
    "chat": "event-chat_analyzed-api_chat",
    "transfer": "event-transfer_bridged-destination_sip_string-option_snake_case",
}


def test_newest_version_keeps_every_row(path):
    load(path, DATABASES[-1])
    rows = dump_of(path)
    migrate(path, timezone="UTC")
    assert dump_of(path) == rows


def test_older_version_keeps_its_rows(older):
    with opened(older) as db:
        count = {
            table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("observations", "calls", "chats", "transfers", "analyses", "transcripts")
        }
        assert count == {
            "observations": 3,
            "calls": 2,
            "chats": 1,
            "transfers": 1,
            "analyses": 1,
            "transcripts": 2,
        }
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_older_version_shows_and_rebuilds_its_calls(older):
    store = Store(older)
    assert rebuild(store, progress=lambda *_: None) == 3
    store.close()
    for name in KEPT.values():
        body = json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))
        fields = body.get("call") or body["chat"]
        entity_id = fields.get("call_id") or fields["chat_id"]
        assert show(older, entity_id) == {k: v for k, v in fields.items() if v is not None}


def test_search_in_an_older_version_finds_its_words(path):
    load(path, DATABASES[0])
    migrate(path, timezone="UTC")
    with opened(path) as db:
        db.execute(
            "INSERT INTO transcripts_fts (transcripts_fts, rank) VALUES ('integrity-check', 1)"
        )
        for index, entries in (("transcripts_fts", 1), ("summaries_fts", 2)):
            indexed = f"SELECT count(*) FROM {index} WHERE {index} MATCH 'the OR a'"
            assert db.execute(indexed).fetchone()[0] == entries, index


def test_older_syncs_stay_without_a_key(path):
    load(path, ROOT / "tests" / "databases" / "0004_days.sql")
    with opened(path) as db:
        db.execute("INSERT INTO syncs VALUES ('', '', '', '2026-05-02', 3, 4, 9, 5, 2, 1, 1, 0)")
        db.execute("INSERT INTO coverage (day, agent_id, listed) VALUES ('2026-05-01', 'a', 9)")
        db.execute("CREATE VIEW my_syncs AS SELECT next_day FROM syncs")
    migrate(path, timezone="UTC")
    found = dump_of(path)
    assert found["syncs"] == [("", "", "", "", "2026-05-02", 3, 4, 9, 5, 2, 1, 1, 0, None)]
    assert [row[:4] for row in found["coverage"]] == [("2026-05-01", "a", None, 9)]
    assert found["coverage"][0][-1] is None
    with opened(path) as db:
        assert db.execute("SELECT * FROM my_syncs").fetchall() == [("2026-05-02",)]


# -- views ---------------------------------------------------------------------------------------


def views_of(path) -> dict[str, str]:
    return {name: sql for kind, name, sql in schema_of(path) if kind == "view"}


def without_semicolons(statements) -> dict[str, str]:
    return {name: sql.rstrip().rstrip(";") for name, sql in statements.items()}


def test_views_are_those_of_the_time_zone(path):
    migrate(path, timezone="UTC")
    assert views_of(path) == without_semicolons(views("UTC"))
    migrate(path, timezone="Pacific/Auckland")
    assert views_of(path) == without_semicolons(views("Pacific/Auckland"))
    assert views("UTC") != views("Pacific/Auckland")
    migrate(path, timezone="UTC")
    assert views_of(path) == without_semicolons(views("UTC"))


def test_every_view_answers(db):
    names = views("UTC")
    assert "call_log" in names
    for name in names:
        assert db.execute(f"SELECT * FROM {name}").fetchall() == []


def test_users_own_view_is_kept(path):
    migrate(path, timezone="UTC")
    with opened(path) as db:
        db.execute("CREATE VIEW mine AS SELECT call_id FROM calls")
    migrate(path, timezone="Asia/Tokyo")
    assert views_of(path)["mine"] == "CREATE VIEW mine AS SELECT call_id FROM calls"


def test_view_changed_by_hand_is_made_anew(path):
    migrate(path, timezone="UTC")
    with opened(path) as db:
        db.execute("DROP VIEW call_log")
        db.execute("CREATE VIEW call_log AS SELECT 1 AS one")
    migrate(path, timezone="UTC")
    assert views_of(path) == without_semicolons(views("UTC"))


def test_unknown_time_zone_leaves_the_file_unchanged(path):
    migrate(path, timezone="UTC")
    schema = schema_of(path)
    with pytest.raises(KeyError):
        migrate(path, timezone="Nowhere/Land")
    assert schema_of(path) == schema


def test_migrating_beside_a_running_receiver_changes_its_views(store, db_path):
    body = b'{"event": "call_ended", "call": {"call_id": "c%d"}}'
    store.add(receive(body % 1, source="webhook", observed_at=1, received_at=1))
    migrate(db_path, timezone="Asia/Tokyo")
    store.add(receive(body % 2, source="webhook", observed_at=1, received_at=1))
    assert views_of(db_path) == without_semicolons(views("Asia/Tokyo"))
    assert len(dump_of(db_path)["calls"]) == 2


def test_a_view_of_the_users_own_changes_nothing(path):
    migrate(path, timezone="UTC")
    with opened(path) as db:
        db.execute("CREATE VIEW my_calls AS SELECT * FROM call_log WHERE cost_dollars > 1")
        before = db.execute("PRAGMA schema_version").fetchone()
        migrate(path, timezone="UTC")
        assert db.execute("PRAGMA schema_version").fetchone() == before


def test_dependent_view_survives_another_time_zone(path):
    migrate(path, timezone="UTC")
    with opened(path) as db:
        db.execute("CREATE VIEW my_calls AS SELECT call_id FROM call_log")
        migrate(path, timezone="Europe/Berlin")
        assert db.execute("SELECT * FROM my_calls").fetchall() == []
