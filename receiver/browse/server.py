"""Datasette on the live file, closed to everybody without a login."""

import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from zoneinfo import ZoneInfo

from datasette.app import Datasette

from receiver.addresses import require_free
from receiver.browse import access, listening
from receiver.browse.access import hash_password
from receiver.browse.datasette_compat import GuardedDatabase, patch_datasette
from receiver.browse.door import Door
from receiver.browse.pages import DATABASE, MASKED, PLUGIN
from receiver.browse.pool import QueryPool
from receiver.browse.sessions import Attempts, Sessions
from receiver.config import Settings, shipped
from receiver.errors import CopyWithoutBodies, SettingsError
from receiver.files import atomic_write, locked
from receiver.store import Store, check_schema, keep_rolled_up, migrate
from receiver.store.bounded import limit_memory
from receiver.store.connection import sqlite3

_DATASETTE_SETTINGS = {
    # Suggesting facets scans each table on each visit.
    "suggest_facets": False,
    # A page may have three, one after the other; a count that is not there by then is left out.
    "facet_time_limit_ms": 300,
    # An answer after some seconds is better than an error after one; nothing runs for ever.
    "sql_time_limit_ms": 10_000,
    "default_facet_size": 6,
    "max_csv_mb": 100,
    "allow_download": False,
}
# Over all connections of the process. A query that needs more fails; the others continue.
MAX_SQLITE_BYTES = 400_000_000
# Whoever browses waits for the receiver, where both need the same processors.
NICENESS = 10


def run(settings: Settings, *, say: Callable[[str], None]) -> None:
    """Serve until stopped. Raises SettingsError if it would be open or cannot listen."""
    require_free(settings.browse_bind, "CALLHOUSE_BROWSE_BIND")
    password_hash, password = _login(settings)
    is_copy = False
    try:
        migrate(settings.database_path, timezone=settings.timezone)
    except CopyWithoutBodies as copy:
        check_schema(settings.database_path)
        is_copy = True
        say(f"{copy}: it is browsed as it is, and nothing is written to it.")
    limit_memory(MAX_SQLITE_BYTES)
    app = serving(settings, password_hash=password_hash).app()
    # Datasette has SQLite print a traceback when a function of ours refuses its arguments.
    sqlite3.enable_callback_tracebacks(False)
    # With datasette-mcp installed, SQL that fails is logged with what it names.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    who = f"login {access.ADMIN}" if password_hash else "the logins of `callhouse user list`"
    say(f"Browsing on http://{settings.browse_bind}/ with {who}")
    if password:
        say(f"Password for this run: {password}")
    bind = settings.browse_bind
    with nullcontext() if is_copy else _adding_up(settings):
        # After the thread that adds up has begun: it holds the write lock for moments. On Linux a
        # thread has a priority of its own, and gives it to the threads that it starts.
        lower_priority()
        listening.run(app, bind.host, bind.port)


def lower_priority() -> None:
    """Let other processes have the processor first.

    Linux shares processors between sessions where `sched_autogroup_enabled` is set, and a nice
    value counts only within a session. So a session that is this process's own, as that of a
    service is, gets the value too. Source: sched(7)
    """
    niceness = os.nice(NICENESS)
    if os.getsid(0) == os.getpid():
        # Missing on other systems.
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


@contextmanager
def _adding_up(settings: Settings) -> Iterator[None]:
    """Roll up in the background: here and not in the receiver, since who browses needs it."""
    store, stop = Store(settings.database_path), threading.Event()

    def roll_up() -> None:
        while not stop.is_set():
            # Queries may have taken all of SQLite's memory for a moment.
            with suppress(MemoryError):
                keep_rolled_up(store, settings.timezone, stop)
            stop.wait(1)

    thread = threading.Thread(target=roll_up, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        store.close()


def serving(settings: Settings, *, password_hash: str | None) -> Datasette:
    """A Datasette on the configured file, whole and without personal data."""
    metadata = json.loads(shipped("datasette_metadata.json").read_text(encoding="utf-8"))
    metadata["plugins"] = {PLUGIN: {"timezone": settings.timezone}}
    metadata["databases"][MASKED] = metadata["databases"][DATABASE]
    patch_datasette(ZoneInfo(settings.timezone))
    secret = _secret(settings)
    served = Datasette([], metadata=metadata, settings=_DATASETTE_SETTINGS, secret=secret)
    # What Datasette serves for want of a file.
    served.remove_database("_memory")
    pool = QueryPool(given_up_after=2 * _DATASETTE_SETTINGS["sql_time_limit_ms"] / 1000)
    for name in (DATABASE, MASKED):
        path = str(settings.database_path)
        database = GuardedDatabase(served, path, pool, is_masked=name == MASKED)
        served.add_database(database, name=name)
    known = access.path_beside(settings.database_path)
    served.callhouse_access = access.Access(known, admin_password_hash=password_hash)
    ended = settings.database_path.with_suffix(".sessions")
    sessions = Sessions(ended, secret=secret, access=served.callhouse_access)
    served.callhouse_door = Door(served.callhouse_access, sessions, Attempts())
    return served


def _login(settings: Settings) -> tuple[str | None, str | None]:
    """The hash of admin's password, and the password itself if it was made up just now.

    Where users are known, there need not be an admin.
    """
    if settings.browse_password_hash:
        return settings.browse_password_hash, None
    if settings.browse_password:
        # The salt is this installation's, so that the hash and the sessions outlast a restart.
        salt = hashlib.sha256(f"admin {_secret(settings)}".encode()).hexdigest()
        return hash_password(settings.browse_password, salt), None
    if access.load(access.path_beside(settings.database_path)).users:
        return None, None
    if not settings.browse_bind.is_loopback:
        raise SettingsError(
            f"browsing on {settings.browse_bind} needs a password",
            hint="Set CALLHOUSE_BROWSE_PASSWORD or CALLHOUSE_BROWSE_PASSWORD_HASH, or add a user: "
            "callhouse user add.",
        )
    password = secrets.token_urlsafe(9)
    return hash_password(password), password


def _secret(settings: Settings) -> str:
    """The configured secret, or one made once beside the database for its owner alone."""
    if settings.secret:
        return settings.secret
    path: Path = settings.database_path.with_suffix(".secret")
    with locked(path):
        if not path.exists():
            with atomic_write(path) as new:
                new.write_text(secrets.token_hex(32))
    if secret := path.read_text().strip():
        return secret
    raise SettingsError(
        f"{path} is empty", hint="Delete it: a new one is made, and everybody logs in again."
    )
