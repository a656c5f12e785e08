"""Every written webhook body, signed and posted: stored once, in any order, and shown whole."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiver import config
from receiver.addresses import Location
from receiver.store import show
from receiver.webhook.app import create_app
from schema.tables import CALLS, CHATS, OBSERVATIONS
from tests.support.engines import url_of
from tests.support.histories import dump_of
from tests.support.webhooks import KEY, NOW_MS, PAYLOADS, post

BODIES = {path.stem: path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))}
INBOUND = [name for name in BODIES if name.startswith(("event-call_inbound", "event-chat_inbound"))]


def compact(value) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def carried(name: str) -> tuple[str, dict] | None:
    """("call" or "chat", the object) that a body is about; None if quarantined or neither."""
    value = json.loads(BODIES[name])
    if name.startswith("quarantine-"):
        return None
    key = next((key for key in ("call", "data", "chat") if key in value), None)
    return key and ("chat" if key == "chat" else "call", value[key])


OBJECTS = {name: about for name in BODIES if (about := carried(name))}


@contextmanager
def receiver_on(where: Location) -> Iterator:
    """A client of an app on a database."""
    environ = {"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url_of(where)}
    app = create_app(config.load(environ, dotenv=Path("none")), now_ms=lambda: NOW_MS)
    yield app.test_client()
    app.extensions["callhouse"]["store"].close()
    app.extensions["callhouse"]["counters"].close()


@pytest.fixture(scope="module")
def shared_database(engine) -> Iterator[Location]:
    """One for all bodies: each is about something else."""
    with engine.blank() as where:
        yield where


@pytest.fixture(scope="module")
def shared(shared_database, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        # Of a database on a server, what is counted is in a folder here.
        patch.chdir(tmp_path_factory.mktemp("payloads"))
        with receiver_on(shared_database) as client:
            yield client


@pytest.fixture(scope="module")
def rows(engine, shared_database):
    """Look into the shared database."""
    with engine.looking(shared_database) as connection:
        yield connection


@pytest.fixture(scope="module")
def delivered(shared) -> dict[str, int]:
    """Each body posted once: the status of each answer."""
    return {name: post(shared, body).status_code for name, body in BODIES.items()}


def some_of(where: Location, *, without: tuple[str, ...]) -> dict[str, list[tuple]]:
    """All tables, some columns of observations left out."""
    tables = dump_of(where)
    places = [i for i, column in enumerate(OBSERVATIONS.names) if column not in without]
    tables["observations"] = [tuple(row[i] for i in places) for row in tables["observations"]]
    return tables


def test_there_are_bodies_of_every_kind():
    kinds = {name.split("-")[0] for name in BODIES}
    assert kinds == {"era", "event", "quarantine", "reason", "shape"}
    assert len(BODIES) >= 180


@pytest.mark.parametrize("name", BODIES)
def test_body_is_quarantined_only_if_named_so(name, delivered, rows):
    assert delivered[name] == (200 if name in INBOUND else 204)
    sha256 = hashlib.sha256(BODIES[name]).hexdigest()
    query = "SELECT problem FROM observations WHERE body_sha256 = ?"
    (observation,) = rows.execute(query, (sha256,)).fetchall()
    assert (observation["problem"] is not None) == name.startswith("quarantine-")


@pytest.mark.usefixtures("delivered")
@pytest.mark.parametrize("name", OBJECTS)
def test_call_or_chat_body_has_a_row(name, rows):
    kind, fields = OBJECTS[name]
    query = f"SELECT * FROM {kind}s WHERE {kind}_id = ?"
    (row,) = rows.execute(query, (fields[f"{kind}_id"],)).fetchall()
    plain = {
        column: value
        for column, value in fields.items()
        if column in (CALLS if kind == "call" else CHATS).names and isinstance(value, str | int)
    }
    assert {column: row[column] for column in plain} == plain


def test_body_posted_twice_changes_only_its_arrival_data(database):
    times = ("times_received", "last_received_at")
    with receiver_on(database) as client:
        for body in BODIES.values():
            post(client, body)
        once = some_of(database, without=times)
        for body in BODIES.values():
            post(client, body, at_ms=NOW_MS + 1000)
    twice = some_of(database, without=times)
    assert twice == once
    kinds = [kind for kind, _ in OBJECTS.values()]
    assert len(twice["observations"]) == len(BODIES)
    assert (len(twice["calls"]), len(twice["chats"])) == (kinds.count("call"), kinds.count("chat"))
    often = OBSERVATIONS.names.index("times_received")
    assert {row[often] for row in dump_of(database)["observations"]} == {2}


@pytest.mark.slow
def test_reversed_order_ends_in_the_same_tables(engine):
    # Each body, and its object once more as analysed, at a time of its own.
    bodies = list(BODIES.values())
    bodies += [analyzed(kind, fields) for kind, fields in OBJECTS.values()]
    deliveries = [(body, NOW_MS - len(bodies) + i) for i, body in enumerate(bodies)]
    dumps = []
    for order in (deliveries, deliveries[::-1]):
        with engine.blank() as where:
            with receiver_on(where) as client:
                for body, at_ms in order:
                    post(client, body, at_ms=at_ms)
            dumps.append(dump_of(where))
    assert dumps[0] == dumps[1]


def analyzed(kind: str, fields: dict) -> bytes:
    return compact({"event": f"{kind}_analyzed", kind: fields})


@pytest.mark.slow_on_postgres
@pytest.mark.parametrize("name", OBJECTS)
def test_body_without_one_field_is_stored(name, shared, rows):
    kind, fields = OBJECTS[name]
    key, columns = f"{kind}_id", (CALLS if kind == "call" else CHATS).names
    for field in fields.keys() - {key}:
        other = {k: v for k, v in fields.items() if k != field}
        other[key] = f"{fields[key]} without {field}"
        body = compact({"event": f"{kind}_ended", kind: other})
        assert post(shared, body).status_code == 204
        query = f"SELECT * FROM {kind}s WHERE {key} = ?"
        (row,) = rows.execute(query, (other[key],)).fetchall()
        if field in columns:
            assert row[field] is None


@pytest.mark.usefixtures("delivered")
@pytest.mark.parametrize("name", OBJECTS)
def test_analysed_object_that_comes_last_is_shown_whole(name, shared, shared_database):
    kind, fields = OBJECTS[name]
    assert post(shared, analyzed(kind, fields), at_ms=NOW_MS + 1000).status_code == 204
    shown = show(shared_database, fields[f"{kind}_id"])
    # Null says nothing.
    assert canonical(shown) == canonical({k: v for k, v in fields.items() if v is not None})


def canonical(value) -> str:
    """Equal for equal JSON only: 1, 1.0 and true differ."""
    return json.dumps(value, sort_keys=True)


@pytest.mark.usefixtures("delivered")
def test_tokens_of_web_calls_stand_in_no_column(shared_database):
    tokens = {fields["access_token"] for _, fields in OBJECTS.values() if "access_token" in fields}
    assert tokens
    tables = repr(dump_of(shared_database))
    assert not [token for token in tokens if token in tables]
