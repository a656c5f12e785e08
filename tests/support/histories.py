"""Histories of deliveries from small, colliding alphabets, and their tables in a real file.

A realistic generator misses planted bugs; here the same few times, ids and values collide often.
"""

import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from receiver.addresses import Location
from receiver.errors import NotStored
from receiver.store import AnyStore, open_store, rebuild, receive
from receiver.store import show as show_stored
from receiver.store.engine import reading
from tests.support.engines import Engine, Files
from tests.support.naive_model import Delivery, shown, tables
from tests.support.storing import add
from tests.support.tables import dump
from tests.support.webhooks import PAYLOADS


def utterances(*contents: str) -> list[dict[str, Any]]:
    return [
        {"role": "agent", "content": c, "words": [{"word": c, "start": n, "end": n + 0.5}]}
        for n, c in enumerate(contents)
    ]


TOOL = [
    {"role": "tool_call_invocation", "tool_call_id": "t", "name": "look", "time_sec": 0.25},
    {"role": "tool_call_result", "tool_call_id": "t", "content": "ok", "successful": False},
]

# field -> its values. Null is added to each: it must be ignored.
CALL_FIELDS: dict[str, list[Any]] = {
    "call_status": ["registered", "ongoing", "ended"],
    "agent_name": ["a", "b", "c"],
    "version": [0, 1, 2],
    "agent_version": [0, 1, 2],
    "end_timestamp": [5, 6],
    "disconnection_reason": ["user_hangup", "of_tomorrow", "of_the_day_after"],
    "transfer_destination": ["+1", "+2"],
    "transcript": ["", "word", "other word"],
    "transcript_object": [[], utterances("a"), utterances("b", "c")],
    "transcript_with_tool_calls": [[], utterances("d"), [*utterances("e"), *TOOL]],
    "scrubbed_transcript_with_tool_calls": [[], utterances("f"), utterances("g", "h")],
    "call_analysis": [
        {},
        {"call_summary": "a", "custom_analysis_data": {"x": 1, "y": 2}},
        {"call_summary": "a", "custom_analysis_data": {"y": 2, "x": 1}},
        {"user_sentiment": "Positive", "custom_analysis_data": {"x": 3}},
    ],
    "call_cost": [
        {"combined_cost": 1},
        {"combined_cost": 2, "product_costs": [{"product": "a"}, {"product": "b"}]},
        {"product_costs": [{"product": "c", "cost": 3}]},
    ],
    "latency": [{}, {"e2e": {"p50": 1}, "llm": {"p50": 2}}, {"e2e": {"p90": 3}}],
    "e2e_latency": [{"p50": 4}, {"p90": 5}],
    "metadata": [{}, {"x": 1, "y": None}, {"x": True, "y": None}, {"x": [2]}],
    "recording_url": ["", "https://r/1", "https://r/2"],
    # Equal in Python, but not as JSON.
    "novel": [0, False, 0.0, [], {"x": 1, "y": 2}, {"y": 2, "x": 1}],
    "unheard_of": ["a", "b"],
}
CHAT_FIELDS: dict[str, list[Any]] = {
    "chat_status": ["ongoing", "ended"],
    "agent_name": ["a", "b", "c"],
    "message_with_tool_calls": [[], utterances("a"), utterances("b", "c")],
    "chat_analysis": [{"chat_summary": "a"}, {"user_sentiment": "Positive"}],
    "novel": [0, []],
}
EVENTS = {
    "call": [
        "call_started", "call_ended", "call_analyzed", "transcript_updated", "transfer_started",
        "an_event_of_tomorrow",
    ],
    "chat": [
        "chat_started", "chat_ended", "chat_analyzed", "transcript_updated", "transfer_started",
    ],
}  # fmt: skip
FIELDS = {"call": CALL_FIELDS, "chat": CHAT_FIELDS}
# Alternatives: one is used if the other is missing.
ALTERNATIVES = [
    ["transcript_with_tool_calls", "transcript_object"],
    ["agent_version", "version"],
    ["latency", "e2e_latency"],
]
ALONE = sorted({*CALL_FIELDS, *CHAT_FIELDS} - {name for pair in ALTERNATIVES for name in pair})
# Half of the choices are pairs.
TOGETHER = ALTERNATIVES * (len(ALONE) // len(ALTERNATIVES)) + [[name] for name in ALONE]
BESIDE = [{}, {}, {"novel": 1}]
DESTINATIONS = [{}, {"transfer_destination": "+3"}, {"transfer_destination": "sip:x@y"}]
IDS = ["c", "c", "c", "d"]
KINDS = ["call", "call", "call", "chat"]
SOURCES = ["webhook", "webhook", "api", "file"]
TIMES = [0, 1, 2, 3]

# How many examples a quick property has: a fifth of what the run's profile has.
FEW = settings.default.max_examples // 5

# A call with every kind of row.
WHOLE = Delivery(
    "call_ended",
    {
        "disconnection_reason": "of_tomorrow",
        "transcript": "Agent: Umbrella.",
        "transcript_with_tool_calls": [{"role": "agent", "content": "Hello."}],
        "call_analysis": {"call_summary": "Short.", "custom_analysis_data": {"x": 1}},
        "call_cost": {"combined_cost": 2, "product_costs": [{"product": "voice"}]},
        "latency": {"e2e": {"p50": 1}},
        "metadata": {"lead": "L-1"},
        "recording_url": "https://r/1",
    },
    id="whole",
)

Choose = Callable[[list[Any]], Any]


def delivery(choose: Choose, names: list[str], kind: str) -> Delivery:
    """One delivery with the fields `names`; `choose` selects everything else."""
    source = choose(SOURCES)
    event = choose(EVENTS[kind]) if source != "api" else None
    beside = DESTINATIONS if event and event.startswith("transfer_") else BESIDE
    return Delivery(
        event=event,
        fields={name: choose([*FIELDS[kind][name], None]) for name in names},
        at=choose(TIMES),
        received=choose(TIMES),
        id=choose(IDS),
        kind=kind,
        source=source,
        beside=choose(beside) if event else {},
    )


def again(choose: Choose, before: Delivery) -> Delivery:
    """The same body again, at another time."""
    return Delivery(
        **(vars(before) | {"at": choose(TIMES), "received": choose(TIMES)}),
    )


@st.composite
def deliveries(draw: st.DrawFn, palette: list[str]) -> Delivery:
    kind = draw(st.sampled_from(KINDS))
    names = [name for name in palette if name in FIELDS[kind] and draw(st.booleans())]
    return delivery(lambda options: draw(st.sampled_from(options)), names, kind)


@st.composite
def histories(draw: st.DrawFn, max_size: int = 6) -> list[Delivery]:
    """Some deliveries with the same few fields, and some of them repeated."""
    groups = draw(st.lists(st.sampled_from(TOGETHER), min_size=1, max_size=3))
    palette = sorted({name for group in groups for name in group})
    fresh = draw(st.lists(deliveries(palette), min_size=1, max_size=max_size))
    repeated = draw(st.lists(st.sampled_from(fresh), max_size=2))
    return fresh + [
        again(lambda options: draw(st.sampled_from(options)), before) for before in repeated
    ]


def every_pair() -> list[Delivery]:
    """All pairs of values that two deliveries can have for a field or its alternative.

    Each pair is a call of its own. Random choice rarely finds values that are equal in Python but
    not as JSON.
    """
    history: list[Delivery] = []
    for names in [*ALTERNATIVES, *([name] for name in CALL_FIELDS)]:
        statements = [{name: value} for name in names for value in [*CALL_FIELDS[name], None]]
        for first, second in product(statements, statements):
            for event in ("call_started", "call_ended"):
                call = f"call_{len(history)}"
                history += [
                    Delivery(event, first, at=0, id=call),
                    Delivery("call_ended", second, at=1, id=call),
                ]
    return history


def seeded(seed: int, size: int) -> list[Delivery]:
    """A long history in random order, the same for the same seed."""
    rng = random.Random(seed)
    fresh = []
    for _ in range(size):
        kind = rng.choice(KINDS)
        names = rng.sample(sorted(FIELDS[kind]), rng.randint(0, 4))
        fresh.append(delivery(rng.choice, names, kind))
    history = fresh + [again(rng.choice, before) for before in rng.sample(fresh, size // 4)]
    rng.shuffle(history)
    return history


def blank_file() -> AbstractContextManager[Path]:
    """A migrated file without rows."""
    return Files().blank()


def deliver(store: AnyStore, history: Iterable[Delivery]) -> None:
    for d in history:
        store.add(receive(d.body, source=d.source, observed_at=d.at, received_at=d.received))


def rebuilt(where: Location) -> int:
    """Rebuild its tables; return the number of its entities."""
    store = open_store(where)
    try:
        return rebuild(store, progress=lambda *_: None)
    finally:
        store.close()


def dump_of(where: Location) -> dict[str, list[tuple[Any, ...]]]:
    with reading(where) as connection:
        return dump(connection)


def differences(where: Location, history: list[Delivery]) -> set[str]:
    """The differences from the naive model: names of tables, and `show`."""
    found, expected = dump_of(where), tables(history)
    wrong = {table for table in expected if found[table] != expected[table]}
    if any(_show(where, id) != object for id, object in shown(history).items()):
        wrong.add("show")
    return wrong


def _show(where: Location, entity_id: str) -> dict[str, Any] | None:
    try:
        return show_stored(where, entity_id)
    except NotStored:
        return None


def differences_after(engine: Engine, history: list[Delivery]) -> set[str]:
    """The same for a new database to which the history is delivered."""
    with engine.blank() as where:
        return differences_in(where, history)


def differences_in(where: Location, history: list[Delivery]) -> set[str]:
    """The same for an empty database."""
    store = open_store(where)
    try:
        deliver(store, history)
        return differences(where, history)
    finally:
        store.close()


def deliver_every_kind(store):
    """Calls, chats, transfers, alerts, repeated, broken and unknown ones; erased and not."""
    for path in sorted(PAYLOADS.glob("*.json"))[::4]:
        store.add(receive(path.read_bytes(), source="webhook", observed_at=5, received_at=6))
    for body in (b"not JSON", b'{"event": "alert_triggered"}', b'{"event": "call_inbound"}'):
        store.add(receive(body, source="webhook", observed_at=5, received_at=6))
    deliver(store, [*seeded(7, 60), WHOLE])
    # The last call with its reason gets another one.
    add(store, "call_ended", "whole", at=9, disconnection_reason="user_hangup")
    deliver(store, seeded(9, 10))
