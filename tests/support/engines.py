"""The engines that the tests run on: their databases, and operations that only tests need.

All tests run on SQLite, and those that have a database once more on PostgreSQL (`pytest --engine
postgres`). Tests have no branches for an engine: the differences are here, under the same names.
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from receiver.addresses import Location, PostgresUrl
from receiver.store import Store, migrate
from receiver.store.connection import Connection, connect, sqlite3
from tests.support.viewing import SQLITES, create

# In memory if possible: these tests need no durability.
FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


def url_of(where: Location) -> str:
    """A database's CALLHOUSE_DATABASE_URL."""
    return where.url if isinstance(where, PostgresUrl) else f"sqlite:///{where}"


@cache
def _blank() -> bytes:
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        path = Path(folder) / "blank.db"
        migrate(path, timezone="UTC")
        return path.read_bytes()


class Files:
    """SQLite: a database is a file."""

    errors = sqlite3
    # Views are read by each SQLite at hand.
    dialects = sorted(SQLITES)

    @contextmanager
    def blank(self) -> Iterator[Path]:
        """A migrated database without rows."""
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            path = Path(folder) / "retell.db"
            path.write_bytes(_blank())
            yield path

    @contextmanager
    def nothing(self) -> Iterator[Path]:
        """The location of a new database."""
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            yield Path(folder) / "new" / "retell.db"

    @contextmanager
    def viewed(self, timezone: str, dialect: str) -> Iterator[Connection]:
        """A connection to a new database whose views are of a time zone."""
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            path = Path(folder) / "retell.db"
            with closing(create(path, timezone, SQLITES[dialect])) as connection:
                yield connection

    @contextmanager
    def copied(self, where: Path) -> Iterator[Path]:
        """Another database with the same rows; nobody has the first one open."""
        with self.blank() as path:
            shutil.copy(where, path)
            yield path

    @contextmanager
    def looking(self, where: Path) -> Iterator[Connection]:
        """A second connection to look into the database; rows have positions and names."""
        connection = connect(where, busy_timeout_ms=5000)
        connection.row_factory = sqlite3.Row
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def browsable(self, environ: dict[str, str], _folder: Path) -> Iterator[dict[str, str]]:
        """The settings with which Datasette serves the database of `environ`."""
        yield environ

    def folder(self, where: Path) -> Path:
        """The folder of the database's files, which may contain others."""
        return where.parent

    def hold(self, connection: Connection) -> None:
        """Lock the database until the transaction ends."""
        connection.execute("BEGIN IMMEDIATE")

    def without_keys(self, connection: Connection) -> None:
        """Switch off foreign keys, like an editor of the file."""
        connection.execute("PRAGMA foreign_keys = OFF")

    def check(self, connection: Connection) -> None:
        """Fail unless foreign keys are valid and indexes match their tables."""
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        connection.execute(
            "INSERT INTO transcripts_fts (transcripts_fts, rank) VALUES ('integrity-check', 1)"
        )

    def statements(self, store: Store, _monkeypatch: Any) -> list[str]:
        """A list that grows by each statement that the store runs, once for each row."""
        executed: list[str] = []
        with store.transaction() as connection:
            connection.set_trace_callback(executed.append)
        executed.clear()
        return executed

    def schema_of(self, where: Path) -> list[Any]:
        """The names of tables, indexes and views."""
        with self.looking(where) as connection:
            found = connection.execute("SELECT name, sql FROM sqlite_master").fetchall()
            return [tuple(row) for row in found]

    def found_by(self, connection: Connection, word: str) -> list[str]:
        """Calls in whose transcript a word is, by the index of words."""
        found = connection.execute(
            "SELECT call_id FROM transcripts WHERE rowid IN (SELECT rowid FROM transcripts_fts "
            "WHERE transcripts_fts MATCH ?) ORDER BY 1",
            (word,),
        )
        return [call_id for (call_id,) in found]

    def forget_migrations(self, connection: Connection) -> None:
        """Delete the list of migrations, as if another version had created the database."""
        connection.execute("DELETE FROM _sqlite_migrations")

    def note_migration(self, connection: Connection, name: str) -> None:
        """Add a migration, as if by a newer version."""
        connection.execute(
            "INSERT INTO _sqlite_migrations (migration_set, name) VALUES ('callhouse', ?)", (name,)
        )


class Server:
    """PostgreSQL: a database is one of many on the server of this run."""

    dialects = ("PostgreSQL",)

    def __init__(self, cluster: Any) -> None:
        # Imported here, as all of PostgreSQL's: the other tests need no client of it.
        import psycopg

        from tests.support import postgres

        self.errors = psycopg
        self.looking = postgres.looking
        self._cluster = cluster
        self._name_of = postgres.name_of
        # Databases for reuse: emptying one is several times faster than creating one.
        self._spare: list[PostgresUrl] = []
        new = cluster.blank()
        with self.looking(new) as session:
            self._shape = session.execute(_SHAPE).fetchone()
            self._reasons = session.execute(_REASONS).fetchall()
        self._spare.append(new)

    @contextmanager
    def blank(self) -> Iterator[PostgresUrl]:
        where = self._spare.pop() if self._spare else self._cluster.blank()
        try:
            yield where
        finally:
            if self._is_emptied(where):
                self._spare.append(where)
            else:
                self._drop(where)

    @contextmanager
    def nothing(self) -> Iterator[PostgresUrl]:
        where = self._cluster.create()
        try:
            yield where
        finally:
            self._drop(where)

    @contextmanager
    def viewed(self, timezone: str, _dialect: str) -> Iterator[Any]:
        with self.blank() as where, self.looking(where) as session:
            migrate(where, timezone=timezone)
            yield session

    @contextmanager
    def copied(self, where: PostgresUrl) -> Iterator[PostgresUrl]:
        copy = self._cluster.create(self._name_of(where))
        try:
            yield copy
        finally:
            self._drop(copy)

    @contextmanager
    def browsable(self, environ: dict[str, str], folder: Path) -> Iterator[dict[str, str]]:
        from tests.support import running

        with running.mirror(environ, folder):
            yield environ | {"CALLHOUSE_DATABASE_URL": url_of(folder / "mirror.db")}

    def folder(self, where: PostgresUrl) -> Path:
        # So that files of the log are removed and not reused.
        with self.looking(where) as session:
            session.execute("ALTER SYSTEM SET wal_recycle = off")
            session.execute("SELECT pg_reload_conf()")
        return self._cluster.folder / "data"

    def hold(self, session: Any) -> None:
        session.execute("BEGIN")
        session.execute("LOCK TABLE entity_locks IN EXCLUSIVE MODE")

    def without_keys(self, session: Any) -> None:
        session.execute("SET session_replication_role = replica")

    def check(self, session: Any) -> None:
        for child, column, parent, key in session.execute(_KEYS).fetchall():
            lost = f"SELECT {column} FROM {child} EXCEPT SELECT {key} FROM {parent}"
            assert session.execute(lost).fetchall() == [], child

    def statements(self, _store: Any, monkeypatch: Any) -> list[str]:
        from receiver.store.postgres.connection import Session
        from receiver.store.sql import UPSERT

        executed: list[str] = []
        execute, executemany = Session.execute, Session.executemany
        upsert = Session.upsert

        def heard(session, statement, parameters=(), /):
            executed.append(statement)
            return execute(session, statement, parameters)

        def heard_often(session, statement, parameters, /):
            parameters = list(parameters)
            executed.extend([statement] * len(parameters))
            executemany(session, statement, parameters)

        def heard_rows(session, table, rows, /):
            rows = list(rows)
            executed.extend([UPSERT[table]] * len(rows))
            upsert(session, table, rows)

        monkeypatch.setattr(Session, "execute", heard)
        monkeypatch.setattr(Session, "upsert", heard_rows)
        monkeypatch.setattr(Session, "executemany", heard_often)
        return executed

    def schema_of(self, where: PostgresUrl) -> list[Any]:
        with self.looking(where) as session:
            return session.execute(_SHAPE).fetchall()

    def found_by(self, session: Any, word: str) -> list[str]:
        session.execute("SET enable_seqscan = off")
        found = session.execute(
            "SELECT call_id FROM transcripts WHERE to_tsvector('simple', left(transcript, 100000)) "
            "@@ to_tsquery('simple', ?) ORDER BY 1",
            (word,),
        )
        return [call_id for (call_id,) in found]

    def forget_migrations(self, session: Any) -> None:
        session.execute("DELETE FROM callhouse_migrations")

    def note_migration(self, session: Any, name: str) -> None:
        session.execute("INSERT INTO callhouse_migrations VALUES (?, '')", (name,))

    def _is_emptied(self, where: PostgresUrl) -> bool:
        """Delete all rows; return whether it is then like a new one and not in use."""
        with self.looking(where) as session:
            if session.execute(_SHAPE).fetchone() != self._shape:
                return False
            if session.execute(_OTHERS).fetchone()[0]:
                return False
            full = [name for (name,) in session.execute(_FULL)]
            # Without foreign keys. Vacuuming small tables is faster than truncating them.
            session.execute("SET session_replication_role = replica")
            with session.raw.pipeline():
                for name in full:
                    session.execute(f"DELETE FROM {name}")
                session.executemany(_ADD_REASON, self._reasons)
            session.execute(f"VACUUM {', '.join(full)}")
        return True

    def _drop(self, where: PostgresUrl) -> None:
        with self.looking(self._cluster.url("postgres")) as session:
            session.execute(f"DROP DATABASE {self._name_of(where)} WITH (FORCE)")


Engine = Files | Server

# Its tables, its views with their mark, its migrations, and what is set for it.
_SHAPE = """
    SELECT
        (SELECT string_agg(relname || coalesce(obj_description(oid, 'pg_class'), ''), ' '
                ORDER BY relname)
            FROM pg_class WHERE relnamespace = 'public'::regnamespace),
        (SELECT string_agg(name, ' ' ORDER BY name) FROM callhouse_migrations),
        (SELECT count(*) FROM pg_db_role_setting)
"""
_FULL = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND pg_relation_size(oid) > 0
        AND relname <> 'callhouse_migrations'
"""
_OTHERS = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
"""
_KEYS = """
    SELECT conrelid::regclass::text, a.attname, confrelid::regclass::text, b.attname
    FROM pg_constraint
    JOIN pg_attribute a ON a.attrelid = conrelid AND a.attnum = conkey[1]
    JOIN pg_attribute b ON b.attrelid = confrelid AND b.attnum = confkey[1]
    WHERE contype = 'f'
"""
_REASONS = "SELECT reason, category, description FROM disconnection_reasons"
_ADD_REASON = "INSERT INTO disconnection_reasons (reason, category, description) VALUES (?, ?, ?)"
