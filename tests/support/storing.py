"""Events of calls for the tests of the store, and reads of its tables."""

import json
import random
from contextlib import contextmanager

import receiver.store.ingest
from receiver.store import open_store, receive
from receiver.store.connection import connect
from receiver.store.engine import reading
from receiver.store.ingest import RECENT
from receiver.store.sql import SEARCH_INDEXES


def body_of(event, call_id="c", *, beside=None, **fields) -> bytes:
    value = {"event": event, "call": {"call_id": call_id, **fields}, **(beside or {})}
    return json.dumps(value).encode()


def add(store, event, call_id="c", *, at=1, received=1, source="webhook", beside=None, **fields):
    body = body_of(event, call_id, beside=beside, **fields)
    return store.add(receive(body, source=source, observed_at=at, received_at=received))


def stored(store, body: dict, at=1):
    """Store a body as its webhook would."""
    store.add(receive(json.dumps(body).encode(), source="webhook", observed_at=at, received_at=at))


def agent(content, *words):
    return {"role": "agent", "content": content, "words": [{"word": w} for w in words]}


def rows(db, sql) -> list[tuple]:
    return [tuple(row) for row in db.execute(sql)]


def count(db, table="observations") -> int:
    return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@contextmanager
def held(engine, where):
    """Lock the database for the block."""
    with engine.looking(where) as connection:
        engine.hold(connection)
        yield


def written(statements) -> list[str]:
    """Tables written to, in order, once for each row; without those of an engine's own."""
    words = [statement.split(maxsplit=3) for statement in statements]
    names = [w[2] for w in words if w[0] in ("INSERT", "DELETE")]
    names += [w[1] for w in words if w[0] == "UPDATE"]
    return [n for n in names if n != "entity_locks" and not n.startswith(SEARCH_INDEXES)]


def plant(monkeypatch, error):
    """Make the projection of the call `poison` fail after its rows are written."""
    write = receiver.store.ingest.write

    def failing_write(connection, entity_id, *rows, **how):
        write(connection, entity_id, *rows, **how)
        if entity_id == "poison":
            raise error

    monkeypatch.setattr(receiver.store.ingest, "write", failing_write)


def incompressible(size) -> str:
    return "".join(chr(n) for n in random.Random(1).choices(range(0x4E00, 0x9FFF), k=size))


# Rows without observations.
UPSTREAM = [
    "INSERT INTO upstream_calls (call_id, asked_at) VALUES ('c', 5)",
    "INSERT INTO upstream_calls (call_id, gone_at) VALUES ('never here', 7)",
    "INSERT INTO syncs (agent_id, key_id, since, until, next_day, started_at) "
    "VALUES ('', 'k', '', '', 'x', 3)",
    "INSERT INTO coverage (day, agent_id, listed, checked_at) VALUES ('2026-05-01', 'a', 3, 9)",
]
ERASE = (
    "INSERT INTO erasures (entity_id, scope, erased_at, reason) VALUES (?, 'all', ?, 'asked for')"
)


def in_store(where, work):
    store = open_store(where)
    try:
        return work(store)
    finally:
        store.close()


def write(path, *statements):
    db = connect(path, busy_timeout_ms=5000)
    for statement in statements:
        db.execute(statement)
    db.close()


def bodies(where):
    with reading(where) as connection:
        found = connection.execute("SELECT body_sha256, source, body FROM observations")
        return sorted(map(tuple, found), key=repr)


def forget_recent_events() -> None:
    """Let bodies be read from the database, as by a process that did not receive them."""
    RECENT.__init__(RECENT.max_bytes)
