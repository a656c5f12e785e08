"""What a fuzzer throws bytes at. Each target raises for what must never happen, and only then."""

import atexit
import math
import re
from contextlib import ExitStack
from functools import cache

import zstandard

from receiver.errors import SignatureError
from receiver.store import receive
from receiver.store.connection import Connection, connect
from receiver.store.ingest import observe
from receiver.webhook.signature import authenticate, sign
from schema import merge
from schema.chats import project_chat
from schema.events import parse
from schema.rows import Stamp, project
from tests.support.histories import blank_file
from tests.support.json_model import check_reading
from tests.support.tables import dump
from tests.support.webhooks import KEY, NOW_MS, PAYLOADS

SEEDS = [path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))]
# No JSON holds it, so that a body never needs it.
SEPARATOR = b"\0"
MOST_BODIES = 4
SELECT_BODY = "SELECT body FROM observations WHERE entity_id = ? AND body_sha256 = ?"


def header(data: bytes) -> None:
    """Any header: refused by a SignatureError, unless it says what `sign` would say."""
    input_header, _, body = data.partition(SEPARATOR)
    genuine = sign(body, key=KEY, now_ms=NOW_MS).encode()
    at = len(body) % (len(genuine) + 1)
    # As it comes, and put into a genuine one: no fuzzer finds a digest by itself.
    for value in (
        input_header,
        genuine[:at] + input_header + genuine[at:],
        genuine[:at] + input_header,
    ):
        is_genuine = re.fullmatch(rb"v=0{0,3}" + genuine[2:], value) is not None
        for header_value in (value, value.decode("latin-1")):
            try:
                authenticate(body, header_value, keys=[KEY], now_ms=NOW_MS)
                accepted = True
            except SignatureError:
                accepted = False
            assert accepted == is_genuine, value


def body(data: bytes) -> None:
    """Any body: read as the model reads it, ranked, and made into rows that columns can hold."""
    check_reading(data)
    event = parse(data)
    for source in ("webhook", "api", "file"):
        assert merge.level(event, source=source) in range(4)
    if event.entity_type in ("call", "chat"):
        rows_of = project if event.entity_type == "call" else project_chat
        stamp = Stamp(level=1, observed_at=2, updated_at=3)
        for part, rows in rows_of(event.entity_id, event.fields, stamp).items():
            assert all(_fits(value) for row in rows for value in row), part


def store(data: bytes) -> None:
    """Any bodies: none is lost, none fails to be projected, in both orders the same tables."""
    bodies = data.split(SEPARATOR)[:MOST_BODIES]
    received = [
        receive(body, source="webhook", observed_at=n, received_at=n)
        for n, body in enumerate(bodies)
    ]
    connection, tables = _connection(), []
    for order in (received, received[::-1]):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for one in order:
                observe(connection, one)
            for one, sent in zip(received, bodies, strict=True):
                _check_kept(connection, one.event.entity_id, one.event.body_sha256, sent)
            tables.append(dump(connection))
        finally:
            connection.execute("ROLLBACK")
    assert tables[0] == tables[1], "the order of arrival leaves a trace"
    assert "not projected" not in repr(tables[0]["observations"])


TARGETS = {target.__name__: target for target in (header, body, store)}


def seeds(target: str) -> list[bytes]:
    """Inputs to begin with."""
    if target == "header":
        return [b"v=1,d=" + b"0" * 64 + SEPARATOR + body for body in SEEDS[:20]]
    if target == "body":
        return SEEDS
    return [SEPARATOR.join([body, _other_event(body)]) for body in SEEDS]


def _other_event(body: bytes) -> bytes:
    """A body about the same call or chat, of another level and with less to say."""
    before, _, after = body.partition(b"_analyzed")
    other = before + b"_ended" + after if after else body.replace(b"_ended", b"_analyzed")
    return other.replace(b'"transcript"', b'"other"')


def _fits(value: object) -> bool:
    """Whether a column can hold a value, and every engine the same one."""
    if isinstance(value, str):
        return "\0" not in value and value.encode() is not None
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or (isinstance(value, int) and -(2**63) <= value < 2**63)


def _check_kept(connection: Connection, entity_id: str, sha256: str, sent: bytes) -> None:
    """The body is there, or was dropped because others say all that it says."""
    [(kept,)] = connection.execute(SELECT_BODY, (entity_id, sha256)).fetchall()
    assert kept is None or zstandard.decompress(kept) == sent


@cache
def _connection() -> Connection:
    """A real file, open until the process ends; every transaction in it is undone."""
    stack = ExitStack()
    atexit.register(stack.close)
    connection = connect(stack.enter_context(blank_file()), busy_timeout_ms=0)
    stack.callback(connection.close)
    return connection
