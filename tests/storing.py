"""Events of calls for the tests of the store, and looks into its tables."""

import json

import receiver.store.projecting
from receiver.store import receive


def body_of(event, call_id="c", *, beside=None, **fields) -> bytes:
    value = {"event": event, "call": {"call_id": call_id, **fields}, **(beside or {})}
    return json.dumps(value).encode()


def add(store, event, call_id="c", *, at=1, received=1, source="webhook", beside=None, **fields):
    body = body_of(event, call_id, beside=beside, **fields)
    return store.add(receive(body, source=source, observed_at=at, received_at=received))


def agent(content, *words):
    return {"role": "agent", "content": content, "words": [{"word": w} for w in words]}


def rows(db, sql) -> list[tuple]:
    return [tuple(row) for row in db.execute(sql)]


def count(db, table="observations") -> int:
    return db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def plant(monkeypatch, error):
    """Let the projection of the call `poison` fail after its rows are written."""
    write = receiver.store.projecting.write

    def failing_write(connection, entity_id, rows, **how):
        write(connection, entity_id, rows, **how)
        if entity_id == "poison":
            raise error

    monkeypatch.setattr(receiver.store.projecting, "write", failing_write)
