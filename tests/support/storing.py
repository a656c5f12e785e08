"""Events of calls for the tests of the store, and looks into its tables."""

import json
from contextlib import contextmanager

import receiver.store.projecting
from receiver.store import receive


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
    """Nobody else can write meanwhile."""
    with engine.looking(where) as connection:
        engine.hold(connection)
        yield


def written(statements) -> list[str]:
    """Tables written to, in order, once for each row; without those of an engine's own."""
    words = [statement.split(maxsplit=3) for statement in statements]
    names = [w[2] for w in words if w[0] in ("INSERT", "DELETE")]
    names += [w[1] for w in words if w[0] == "UPDATE"]
    return [n for n in names if n != "entity_locks" and not n.startswith("transcripts_fts")]


def plant(monkeypatch, error):
    """Let the projection of the call `poison` fail after its rows are written."""
    write = receiver.store.projecting.write

    def failing_write(connection, entity_id, rows, **how):
        write(connection, entity_id, rows, **how)
        if entity_id == "poison":
            raise error

    monkeypatch.setattr(receiver.store.projecting, "write", failing_write)
