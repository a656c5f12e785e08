"""A real PostgreSQL server for the tests, from Debian's packages, on a socket in a new folder."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from receiver.addresses import PostgresUrl
from receiver.store import migrate
from receiver.store.postgres.connection import Session, connect

_NUMBERS = count()


def programs() -> Path | None:
    """The folder of the newest `postgres`; Debian keeps it off the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=_version)
    if found:
        return found[-1].parent
    on_path = shutil.which("postgres")
    return Path(on_path).resolve().parent if on_path else None


def _version(path: Path) -> int:
    return int(path.parts[-3]) if path.parts[-3].isdigit() else 0


class Cluster:
    """A server that is started, killed and started again. Not `durable`, it is quick instead.

    It is on a socket in its folder; with `port`, on TCP of this machine too.
    """

    def __init__(self, folder: Path, *, durable: bool = False, port: int | None = None) -> None:
        self.folder = folder
        self._port = port
        self._settings = ["max_connections=200", "shared_buffers=32MB"]
        self._settings += [f"listen_addresses={'127.0.0.1' if port else ''}"]
        self._settings += [f"port={port}"] if port else []
        if durable:
            # What a start after a crash does with a thousand files, one at a time otherwise.
            self._settings += ["recovery_init_sync_method=syncfs"]
        else:
            # Small, because it is in memory, and without autovacuum of emptied tables.
            self._settings += ["fsync=off", "full_page_writes=off", "autovacuum=off"]
            # Compiling the views takes seconds; callhouse switches it off in its transactions.
            self._settings += ["jit=off"]
            self._settings += ["wal_level=minimal", "max_wal_senders=0", "max_wal_size=64MB"]
        # Neither PostgreSQL nor PgBouncer runs as root.
        self._as: list[str] = []
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            ids = [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}"]
            self._as = ["setpriv", *ids, "--clear-groups"]
        self.process: subprocess.Popen | None = None
        options = ["-A", "trust", "-U", "callhouse", "-E", "UTF8", "--locale=C", "--no-sync"]
        self._run("initdb", "-D", str(folder / "data"), *options)

    def _command(self, program: str, *arguments: str) -> list[str]:
        return [*self._as, str(programs() / program), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            self._command(program, *arguments), cwd="/", capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def launch(self) -> None:
        settings = [word for setting in self._settings for word in ("-c", setting)]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(
                    "postgres", "-D", f"{self.folder}/data", "-k", str(self.folder), *settings
                ),
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> "Cluster":
        self.launch()
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, "it does not start"
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            psycopg.connect(self.url("postgres").url).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """kill -9 of the server and all its processes."""
        pids = self.signal(signal.SIGKILL)
        self.process.wait(10)
        # A process that is still ending has the memory that the next start needs.
        deadline = time.monotonic() + 10
        while any(_runs(pid) for pid in pids):
            assert time.monotonic() < deadline, "a process of the server does not end"
            time.sleep(0.01)

    def signal(self, number: int) -> list[int]:
        """To every process of the server; each has a group of its own. Returns their numbers."""
        main = self.process.pid
        children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
        pids = [main, *map(int, children)]
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pids

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(20)

    def url(self, database: str) -> PostgresUrl:
        port = f"&port={self._port}" if self._port else ""
        return PostgresUrl(f"postgresql://callhouse@/{database}?host={self.folder}{port}")

    @contextmanager
    def pooled(self, where: PostgresUrl, program: str) -> Iterator[PostgresUrl]:
        """The same database behind a PgBouncer, which lends a connection for a transaction."""
        folder = self.folder / "pooler"
        folder.mkdir()
        name, port = name_of(where), 6432
        (folder / "ini").write_text(
            f"[databases]\n{name} = host={self.folder} dbname={name} user=callhouse\n"
            f"[pgbouncer]\nlisten_port = {port}\nunix_socket_dir = {folder}\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 3\n"
            "max_prepared_statements = 300\n"
        )
        if self._as:
            shutil.chown(folder, "postgres", "postgres")
        with (folder / "log").open("wb") as log:
            pooler = subprocess.Popen(
                [*self._as, program, str(folder / "ini")], cwd="/", stdout=log, stderr=log
            )
        try:
            deadline = time.monotonic() + 20
            while not (folder / f".s.PGSQL.{port}").exists():
                assert time.monotonic() < deadline, (folder / "log").read_text()
                assert pooler.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            yield PostgresUrl(f"postgresql://callhouse@/{name}?host={folder}&port={port}")
        finally:
            pooler.terminate()
            pooler.wait(20)
            shutil.rmtree(folder)

    def create(self, template: str = "template1") -> PostgresUrl:
        """A new database of its own name."""
        name = f"test_{next(_NUMBERS)}"
        with psycopg.connect(self.url("postgres").url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.url(name)

    def blank(self) -> PostgresUrl:
        """A new database that has been migrated."""
        if not hasattr(self, "_template"):
            where = self.create()
            migrate(where, timezone="UTC")
            self._template = name_of(where)
        return self.create(self._template)


def pooler() -> str | None:
    """The PgBouncer on the PATH, if it keeps prepared statements: from 1.21 on."""
    found = shutil.which("pgbouncer")
    if found is None:
        return None
    output = subprocess.run([found, "--version"], capture_output=True, text=True).stdout
    version = re.match(r"PgBouncer (\d+)\.(\d+)", output)
    return found if version and tuple(map(int, version.groups())) >= (1, 21) else None


def _runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def name_of(where: PostgresUrl) -> str:
    """The database's name on its server."""
    return str(where).rpartition("/")[2]


@contextmanager
def cluster(*, durable: bool = False, port: int | None = None) -> Iterator[Cluster]:
    # A socket's path may have 107 bytes.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() and not durable else "/tmp"
    with tempfile.TemporaryDirectory(prefix="pg", dir=memory) as folder:
        server = Cluster(Path(folder), durable=durable, port=port)
        try:
            yield server.start()
        finally:
            server.stop()


class Row(tuple[Any, ...]):
    """A row whose values have a position and a name, as SQLite's."""

    names: tuple[str, ...]

    def __getitem__(self, which):
        return super().__getitem__(self.names.index(which) if isinstance(which, str) else which)

    def keys(self) -> tuple[str, ...]:
        return self.names


def _named(cursor: psycopg.Cursor) -> Callable[[Sequence[Any]], Row]:
    columns = cursor.description or ()
    return type("Row", (Row,), {"names": tuple(column.name for column in columns)})


@contextmanager
def looking(where: PostgresUrl) -> Iterator[Session]:
    """A second connection to look into the database."""
    session = connect(where, lock_seconds=5)
    session.raw.row_factory = _named
    try:
        yield session
    finally:
        session.close()


def execute(where: PostgresUrl, *statements: str) -> None:
    """Carry out statements of the server's own SQL."""
    with looking(where) as session:
        for statement in statements:
            session.raw.execute(statement)
