"""`callhouse browse`: Datasette on the live database, for readers with a login."""

import asyncio
import hashlib
import json
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

from datasette.app import Datasette

from receiver.addresses import Location, require_free
from receiver.browse import access, http_server
from receiver.browse.access import hash_password
from receiver.browse.datasette_compat import GuardedDatabase, patch_datasette, skip_unused_work
from receiver.browse.pages import DATABASE, MASKED, PLUGIN
from receiver.browse.pages.login import Attempts, Authentication, Sessions
from receiver.browse.pages.sharing import Tokens
from receiver.browse.pool import QueryPool
from receiver.browse.static_files import hashed
from receiver.browse.writing import Writer
from receiver.config import Settings, shipped
from receiver.errors import CopyWithoutBodies, SettingsError
from receiver.files import atomic_write, locked
from receiver.jobs.storage import storage_of
from receiver.store import Store, check_schema, keep_rolled_up, migrate
from receiver.store.connection import sqlite3
from receiver.store.limits import limit_memory, return_freed_memory

_DATASETTE_SETTINGS = {
    # Suggesting facets scans each table on each visit.
    "suggest_facets": False,
    # A page may have four, one after the other; Datasette omits a late one.
    "facet_time_limit_ms": 120,
    # Slow queries may finish, but no query runs without limit.
    "sql_time_limit_ms": 10_000,
    "default_facet_size": 6,
    "max_csv_mb": 100,
    "allow_download": False,
}
# For all connections together. A query that needs more fails; the others continue.
MAX_SQLITE_BYTES = 400_000_000
# The receiver has priority if both need the processor.
NICENESS = 10


def run(settings: Settings, *, mirror: Path | None = None, say: Callable[[str], None]) -> None:
    """Serve until stopped: the database, or a mirror of it.

    Raises SettingsError without a password, a free address or a file.
    """
    written = settings.database
    if mirror is not None:
        settings = replace(settings, database=mirror)
    require_free(settings.browse_bind, "CALLHOUSE_BROWSE_BIND")
    password_hash, password = _login(settings)
    is_copy = False
    try:
        migrate(settings.database_path, timezone=settings.timezone)
    except CopyWithoutBodies as copy:
        check_schema(settings.database_path)
        is_copy = True
        say(f"{copy}: it is served read-only.")
    limit_memory(MAX_SQLITE_BYTES)
    return_freed_memory()
    served = serving(settings, password_hash=password_hash, written=written)
    asyncio.run(served.invoke_startup())
    # Otherwise SQLite prints a traceback when one of callhouse's functions raises.
    sqlite3.enable_callback_tracebacks(False)
    # datasette-mcp logs SQL that fails, with the names and numbers in it.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    who = f"login {access.ADMIN}" if password_hash else "the logins of `callhouse user list`"
    say(f"Browsing on http://{settings.browse_bind}/ with {who}")
    if password:
        say(f"Password for this run: {password}")
    bind = settings.browse_bind
    with nullcontext() if is_copy else _rolling_up(settings):
        # After the rollup thread has started, which needs the write lock: on Linux, priorities are
        # per thread and threads inherit them.
        lower_priority()
        threading.Thread(target=warm_up, args=(served,), daemon=True).start()
        is_querying = served.callhouse_queries.is_querying
        http_server.run(served.app(), bind.host, bind.port, is_querying=is_querying)


def warm_up(served: Datasette) -> None:
    """Compile templates, compress static files and read the schema, so that the first visitors do
    not wait.

    Needs `invoke_startup`, which adds filters to templates.
    """
    for name in served.jinja_env.list_templates(extensions=["html"]):
        served.jinja_env.get_template(name)
    asyncio.run(served.client.get("/-/login"))
    asyncio.run(served.get_database(DATABASE).primary_keys("calls"))


def lower_priority() -> None:
    """Let other processes use the processor first.

    With `sched_autogroup_enabled`, Linux shares processors between sessions, and a nice value
    counts only within its session. So if this process leads a session, as a service does, set the
    value of the session too. Source: sched(7)
    """
    niceness = os.nice(NICENESS)
    if os.getsid(0) == os.getpid():
        # Missing on other systems.
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


@contextmanager
def _rolling_up(settings: Settings) -> Iterator[None]:
    """Fill rollups in the background: here and not in the receiver, because only pages need
    them."""
    store, stop = Store(settings.database_path), threading.Event()

    def roll_up() -> None:
        while not stop.is_set():
            # Queries may use all of SQLite's memory for a moment.
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


def serving(
    settings: Settings, *, password_hash: str | None, written: Location | None = None
) -> Datasette:
    """A Datasette with the configured database twice: complete, and without personal data.

    What people add is written to `written`: the server of which the file is a mirror.
    """
    metadata = json.loads(shipped("datasette_metadata.json").read_text(encoding="utf-8"))
    metadata["plugins"] = {PLUGIN: {"timezone": settings.timezone}}
    metadata["databases"][MASKED] = metadata["databases"][DATABASE]
    patch_datasette(ZoneInfo(settings.timezone), static_url=hashed)
    secret = signing_secret(settings)
    served = Datasette([], metadata=metadata, settings=_DATASETTE_SETTINGS, secret=secret)
    skip_unused_work(served)
    # Datasette adds an empty database if it is given no file.
    served.remove_database("_memory")
    pool = QueryPool(stuck_after_seconds=2 * _DATASETTE_SETTINGS["sql_time_limit_ms"] / 1000)
    file = str(settings.database_path)
    for name in (DATABASE, MASKED):
        database = GuardedDatabase(served, file, pool, is_masked=name == MASKED)
        served.add_database(database, name=name)
    path = access.path_beside(settings.database_path)
    known = access.Access(path, admin_password_hash=password_hash)
    ended = settings.database_path.with_suffix(".sessions")
    sessions = Sessions(ended, secret=secret, access=known)
    served.callhouse_settings = settings
    served.callhouse_queries = pool
    served.callhouse_authentication = Authentication(known, sessions, Attempts())
    served.callhouse_storage = storage_of(settings)
    served.callhouse_tokens = Tokens(secret)
    served.callhouse_writer = Writer(settings.database_path, written)
    return served


def _login(settings: Settings) -> tuple[str | None, str | None]:
    """The hash of admin's password, and the password itself if it was generated.

    Without either setting, there is an admin only if there are no users.
    """
    if settings.browse_password_hash:
        return settings.browse_password_hash, None
    if settings.browse_password:
        # A fixed salt for this installation: the hash and the sessions survive a restart.
        salt = hashlib.sha256(f"admin {signing_secret(settings)}".encode()).hexdigest()
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


def signing_secret(settings: Settings) -> str:
    """The configured secret, or one generated once in a file that its owner alone may read.

    Raises SettingsError without one, if the database is on a server.
    """
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
        f"{path} is empty",
        hint="Delete it: callhouse creates a new one, and all log in again.",
    )
