"""The tables on PostgreSQL: made from SQLite's migrations, and read back from the catalog."""

import multiprocessing
import re
import subprocess

import psycopg
import pytest

from receiver.addresses import PostgresUrl, parse_database
from receiver.errors import DatabaseAway, NotStored, SchemaMismatch, StoreUnavailable
from receiver.jobs import status
from receiver.store import (
    Outcome,
    copying,
    migrate,
    open_store,
    rebuild,
    receive,
    roll_up,
    show,
    sql,
)
from receiver.store.engine import engine
from receiver.store.migrate import scripts
from receiver.store.postgres.connection import numbered
from schema.sql import rollups
from schema.sql.zones import Zone
from schema.tables import ALL_TABLES, TABLES
from tests.support import ROOT
from tests.support.postgres import execute, looking, programs
from tests.support.storing import add
from tests.support.tables import FIRST_COLUMNS

# What PostgreSQL has beside the tables of the schema.
OURS = {"callhouse_migrations", "entity_locks"}
TYPES = {"TEXT": "text", "INTEGER": "bigint", "REAL": "double precision", "BLOB": "bytea"}

COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, NULL), a.attnotnull, c.collname, d.oid
    FROM pg_attribute a
    LEFT JOIN pg_collation c ON c.oid = a.attcollation
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
INDEXES = """
    SELECT c.relname, i.indisprimary, i.indisunique,
        (SELECT array_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k (att, n)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = %s::regclass
"""
FOREIGN_KEYS = """
    SELECT f.confrelid::regclass::text,
        (SELECT array_agg(attname) FROM pg_attribute
         WHERE attrelid = f.conrelid AND attnum = ANY (f.conkey)),
        (SELECT array_agg(attname) FROM pg_attribute
         WHERE attrelid = f.confrelid AND attnum = ANY (f.confkey)), f.confdeltype::text
    FROM pg_constraint f WHERE f.contype = 'f' AND f.conrelid = %s::regclass
"""
# As docs/how-to/postgres.md has them.
GRANTS = (
    "GRANT USAGE ON SCHEMA public TO receiving",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO receiving",
)


@pytest.fixture
def catalog(pg):
    with looking(pg) as session:
        yield lambda query, table: session.raw.execute(query, (table.name,)).fetchall()


def test_tables_have_sqlites_columns_types_and_keys(catalog, db):
    for table in ALL_TABLES:
        columns = catalog(COLUMNS, table)
        declared = [tuple(c) for c in db.execute(f"PRAGMA table_info({table.name})")]
        assert [c[:3] for c in columns] == [(c[1], TYPES[c[2]], bool(c[3])) for c in declared]
        assert tuple(c[0] for c in columns) == table.names
        [key] = [tuple(names) for _, is_key, _, names in catalog(INDEXES, table) if is_key]
        assert key == table.key, table.name


def test_text_sorts_by_its_bytes(catalog):
    for table in ALL_TABLES:
        for name, type_, _, collation, _ in catalog(COLUMNS, table):
            assert collation == ("C" if type_ == "text" else None), (table.name, name)


# Where SQLite has a table of its own for words, and what mirrors ask a server.
OWN_INDEXES = {
    "transcripts": {"transcripts_fts"},
    "observations": {"observations_last_received_at"},
    "upstream_calls": {"upstream_calls_asked_at"},
}
# By these, pages of Datasette find calls, and nothing that asks a server does.
OF_PAGES = {
    "calls_start_timestamp",
    "calls_agent",
    "calls_agent_name",
    "calls_direction",
    "calls_customer",
    "calls_account",
    "analyses_judged",
    "calls_duration",
    "calls_figures",
    "chats_figures",
    "chats_agent",
    "chats_user_number",
    "chat_messages_tool",
    "tool_calls_failed",
    "tool_calls_no_success",
}


def test_indexes_are_sqlites_except_for_pages(catalog, db):
    for table in ALL_TABLES:
        found = {name for name, is_key, *_ in catalog(INDEXES, table) if not is_key}
        expected = {row["name"] for row in db.execute(f"PRAGMA index_list({table.name})")}
        expected -= OF_PAGES
        expected = {name for name in expected if not name.startswith("sqlite_")}
        assert found == expected | OWN_INDEXES.get(table.name, set())


SPAN = {"low": 5, "high": 9, "agent": None, "account": "k"}


@pytest.mark.parametrize(
    ("query", "values", "index"),
    [
        (sql.UNFINISHED["call"], SPAN, "calls_at"),
        (sql.STARTED["call"], SPAN, "calls_at"),
        (sql.CALL_WITH_REASON, ("of_tomorrow",), "calls_disconnection_reason"),
        (copying.NEWEST, (), "calls_updated_at"),
        ("SELECT * FROM calls WHERE updated_at >= ?", (5,), "calls_updated_at"),
        ("SELECT * FROM needs_attention", (), "calls_unfinished"),
        (rollups.hours_to_fill(Zone("UTC")), {"now": 9, "quiet_since": 5}, "calls_at"),
        (sql.CALLER_HISTORY, {"from_number": "+1", "account": "a"}, "calls_from_number"),
        (sql.HIGHEST_OPEN_BODIES, ("c", "call", 17), "observations_open"),
        (status.NEXT_KEY, ("a",), "observations_key"),
        (status.LAST_SIGNED, ("a",), "observations_key"),
    ],
)
def test_what_asks_a_server_finds_calls_by_index(pg, query, values, index):
    with looking(pg) as session:
        # Of few rows, the planner would read all.
        session.execute("SET enable_seqscan = off")
        plan = session.execute(f"EXPLAIN {query}", values).fetchall()
    steps = "\n".join(step for (step,) in plan)
    assert index in steps
    assert "Seq Scan on calls" not in steps


def test_every_key_begins_with_the_column_that_distributes(catalog):
    for table in TABLES:
        assert table.key[0] in FIRST_COLUMNS, table.name
        for name, _, is_unique, columns in catalog(INDEXES, table):
            assert not is_unique or columns[0] == table.key[0], name
        for parent, here, there, _ in catalog(FOREIGN_KEYS, table):
            assert here == there == [table.key[0]], (table.name, parent)


def test_foreign_keys_are_those_of_sqlite(catalog, db):
    rules = {"NO ACTION": "a", "CASCADE": "c"}
    for table in ALL_TABLES:
        declared = db.execute(f"PRAGMA foreign_key_list({table.name})").fetchall()
        expected = [(k["table"], [k["from"]], [k["to"]], rules[k["on_delete"]]) for k in declared]
        assert catalog(FOREIGN_KEYS, table) == expected, table.name


def test_nothing_counts_up_and_nothing_reads_a_clock(pg, catalog):
    for table in ALL_TABLES:
        assert [default for *_, default in catalog(COLUMNS, table)] == [None] * len(table.names)
    with looking(pg) as session:
        for query in (
            "SELECT count(*) FROM pg_sequences",
            "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal",
        ):
            assert session.raw.execute(query).fetchone() == (0,)
        found = session.raw.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert {name for (name,) in found} == {table.name for table in ALL_TABLES} | OURS


# -- statements ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT ? AS id, ?", ("SELECT $1 AS id, $2", ())),
        ("x > :a1 AND y = :b AND z > :a1", ("x > $1 AND y = $2 AND z > $1", ("a1", "b"))),
        ("SELECT '?', ':a', 1 % 2", ("SELECT '?', ':a', 1 % 2", ())),
        ("SELECT max(x), x::text", ("SELECT max(x), x::text", ())),
        ("SELECT ? -- isn't :b?\n, ?", ("SELECT $1 -- isn't :b?\n, $2", ())),
    ],
)
def test_placeholders_are_numbered(statement, expected):
    assert numbered(statement) == expected


def upserted(pg, rows):
    """The rows that are stored after an upsert, and how many statements it took."""
    with looking(pg) as session:
        session.upsert("transcripts", rows)
        prepared = session.execute(
            "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'INSERT INTO trans%'"
        ).fetchone()[0]
        return sorted(session.execute("SELECT call_id, transcript FROM transcripts")), prepared


@pytest.fixture
def of_calls(pg):
    with looking(pg) as session:
        session.execute(
            "INSERT INTO calls (call_id) SELECT 'c' || n FROM generate_series(10, 80) n"
        )
    return [(f"c{n}", f"said {n}") for n in range(10, 81)]


def test_rows_are_inserted_in_few_statements(pg, of_calls):
    assert upserted(pg, of_calls) == (of_calls, len(["64 rows", "4 rows", "2 rows", "1 row"]))


def test_last_row_of_a_key_is_inserted(pg, of_calls):
    assert upserted(pg, [*of_calls, ("c10", "later")]) == ([("c10", "later"), *of_calls[1:]], 4)


# -- migrating -----------------------------------------------------------------------------------


def migrate_at(where, barrier, done):
    barrier.wait(timeout=60)
    done.put(migrate(where, timezone="UTC"))


def test_eight_processes_migrate_once(postgres):
    where = postgres.create()
    fork = multiprocessing.get_context("fork")
    barrier, done = fork.Barrier(8), fork.Queue()
    processes = [fork.Process(target=migrate_at, args=(where, barrier, done)) for _ in range(8)]
    for process in processes:
        process.start()
    applied = sorted(done.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
    assert applied == [[]] * 7 + [list(scripts())]


def migrate_to_days(where, monkeypatch):
    """Migrate as a version did that did not have 0005_key_positions."""
    older = {name: script for name, script in scripts().items() if name <= "0004_days"}
    with monkeypatch.context() as patch:
        patch.setattr("receiver.store.postgres.migrate.scripts", lambda: older)
        # This version's views read columns that are not there yet.
        patch.setattr("receiver.store.postgres.migrate.refresh", lambda *_: None)
        migrate(where, timezone="UTC")
    return older


def test_older_syncs_stay_without_a_key(postgres, monkeypatch):
    where = postgres.create()
    older = migrate_to_days(where, monkeypatch)
    with looking(where) as session:
        session.raw.execute(
            "INSERT INTO syncs VALUES ('', '', '', '2026-05-02', 3, 4, 9, 5, 2, 1, 1, 0)"
        )
    assert migrate(where, timezone="UTC") == [name for name in scripts() if name not in older]
    with looking(where) as session:
        found = session.raw.execute("SELECT * FROM syncs").fetchall()
    assert found == [("", "", "", "", "2026-05-02", 3, 4, 9, 5, 2, 1, 1, 0, None)]


def test_lost_rights_on_syncs_are_granted_as_printed(postgres, monkeypatch):
    where = postgres.create()
    migrate_to_days(where, monkeypatch)
    roles = ("callhouse_receiver", "exporter")
    execute(
        where,
        *(f"CREATE ROLE {role}" for role in roles),
        *(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}" for role in roles),
    )

    def may_read(role: str) -> bool:
        with looking(where) as session:
            query = "SELECT has_table_privilege(%s, 'syncs', 'SELECT')"
            return session.raw.execute(query, (role,)).fetchone()[0]

    text = (ROOT / "docs/how-to/postgres.md").read_text(encoding="utf-8")
    [grants] = re.findall(r"```sql\n(GRANT [^`]* ON syncs .*?)```", text, re.DOTALL)
    try:
        assert [may_read(role) for role in roles] == [True, True]
        migrate(where, timezone="UTC")
        assert [may_read(role) for role in roles] == [False, False]
        execute(where, *grants.split(";")[:-1])
        assert [may_read(role) for role in roles] == [True, True]
    finally:
        execute(where, *(f"DROP OWNED BY {role}" for role in roles))
        execute(where, *(f"DROP ROLE {role}" for role in roles))


# As every version so far has created them.
SIGNATURES = [
    ("strftime", "form text, seconds bigint, unixepoch text", "text"),
    ("printf", "form text, first bigint, second bigint, third bigint", "text"),
    ("round", "value double precision, digits integer", "double precision"),
    ("json_valid", "document text", "boolean"),
    ("json_type", "document text, path text", "text"),
    ("json_each", "document text, OUT value bigint, OUT type text", "SETOF record"),
    ("seconds_at", "document json, index integer", "double precision"),
]


def test_functions_of_older_versions_can_be_replaced(pg):
    """PostgreSQL replaces no function whose parameters have other names."""
    with looking(pg) as session:
        for name, parameters, result in SIGNATURES:
            found = session.execute(
                "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid) FROM pg_proc "
                "WHERE proname = ? AND pronamespace = 'public'::regnamespace",
                (name,),
            )
            assert found.fetchall() == [(parameters, result)]


def test_a_failed_migration_leaves_nothing(postgres, monkeypatch):
    where = postgres.create()
    broken = {**scripts(), "9999_broken": "CREATE INDEX i ON calls (nowhere);"}
    monkeypatch.setattr("receiver.store.postgres.migrate.scripts", lambda: broken)
    with pytest.raises(DatabaseAway):
        migrate(where, timezone="UTC")
    with looking(where) as session:
        found = session.raw.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        assert found.fetchall() == []


def test_a_database_of_a_newer_version_is_refused(pg):
    with looking(pg) as session:
        session.raw.execute("INSERT INTO callhouse_migrations VALUES ('9999_tomorrow', '')")
    with pytest.raises(SchemaMismatch, match="9999_tomorrow"):
        migrate(pg, timezone="UTC")
    store = open_store(pg)
    with pytest.raises(SchemaMismatch):
        store.add(receive(b"{}", source="webhook", observed_at=1, received_at=1))


NO_CHANGES = (
    "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'a statement changes tables: %', tg_tag; END $$",
    "CREATE EVENT TRIGGER refuse ON ddl_command_start EXECUTE FUNCTION refuse()",
)


def test_start_changes_no_table_of_a_current_database(pg):
    execute(pg, *NO_CHANGES)
    assert migrate(pg, timezone="UTC") == []


def test_role_without_rights_to_alter_can_serve(pg):
    execute(pg, "CREATE ROLE receiving LOGIN", *GRANTS)
    try:
        where = PostgresUrl(pg.url.replace("callhouse@", "receiving@"))
        assert migrate(where, timezone="UTC") == []
        store = open_store(where)
        assert add(store, "call_ended", "c", disconnection_reason="of_tomorrow") is Outcome.STORED
        assert rebuild(store, progress=lambda *_: None) == 1
        assert list(roll_up(store, timezone="UTC", now_ms=2**50))
        store.close()
        assert engine(where).clean(pause=lambda _: None) is None
        # Which words, depends on the server's version.
        assert '"observations"' in (engine(where).vacuum() or "")
        with pytest.raises(DatabaseAway, match="may not change them") as refused:
            migrate(where, timezone="Asia/Tokyo")
        assert "callhouse migrate" in refused.value.hint
    finally:
        execute(pg, "DROP OWNED BY receiving", "DROP ROLE receiving")


def test_roles_and_database_are_made_as_printed(postgres):
    """By psql, which the commands in docs/how-to/postgres.md are for."""
    text = (ROOT / "docs/how-to/postgres.md").read_text(encoding="utf-8")
    [printed] = re.findall(r"```sql\n(CREATE ROLE callhouse_owner.*?)```", text, re.DOTALL)
    psql = [str(programs() / "psql"), "-X", "-v", "ON_ERROR_STOP=1"]
    subprocess.run([*psql, postgres.url("postgres").url], input=printed, text=True, check=True)
    where = postgres.url("callhouse")
    owner, receiver = (
        PostgresUrl(where.url.replace("callhouse@", f"callhouse_{role}@"))
        for role in ("owner", "receiver")
    )
    try:
        assert migrate(owner, timezone="UTC") == list(scripts())
        assert migrate(receiver, timezone="UTC") == []
        store = open_store(receiver)
        assert add(store, "call_ended") is Outcome.STORED
        store.close()
        with looking(receiver) as session, pytest.raises(psycopg.errors.InsufficientPrivilege):
            session.raw.execute("DROP TABLE calls")
    finally:
        execute(postgres.url("postgres"), "DROP DATABASE callhouse WITH (FORCE)")
        execute(postgres.url("postgres"), "DROP ROLE callhouse_owner, callhouse_receiver")


def test_database_without_tables_is_reported(postgres):
    where = postgres.create()
    store = open_store(where)
    with pytest.raises(SchemaMismatch):
        store.add(receive(b"{}", source="webhook", observed_at=1, received_at=1))
    with pytest.raises(NotStored, match="no tables"):
        show(where, "c")


# -- its address ---------------------------------------------------------------------------------


@pytest.mark.parametrize("password", ["hunter2", "hunter2?x", "hunter2#x", "hunter2?x#y=%2F&z"])
def test_a_password_shows_nowhere(password):
    where = parse_database(f"postgresql://calls:{password}@db.example.com:5433/calls?sslmode=no")
    assert isinstance(where, PostgresUrl)
    assert "hunter2" not in f"{where} {where!r}"
    assert str(where) == "postgresql://db.example.com:5433/calls"


@pytest.mark.parametrize("text", ["u:hunter2/x@h/db", "u:hun ter2@h/db", "u:hunter2@x@h/db"])
def test_url_that_libpq_refuses_is_refused(text):
    with pytest.raises(ValueError, match="it must be"):
        parse_database(f"postgresql://{text}")
    assert "hunter2" not in str(PostgresUrl(f"postgresql://{text}"))


def test_unreachable_server_is_named_without_its_message():
    where = PostgresUrl("postgresql://calls:hunter2@127.0.0.1:1/calls")
    with pytest.raises(StoreUnavailable, match="no connection to the server") as caught:
        show(where, "c")
    assert "hunter2" not in str(caught.value)
