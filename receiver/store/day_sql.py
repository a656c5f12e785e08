"""The statements that read the database by day (UTC). Columns come from schema.tables."""

from dataclasses import dataclass

from schema.tables import CALLS, CHATS, OBSERVATIONS, Table

DAY_MS = 86_400_000
# The last day that four digits of a year can write.
_END_MS = 253_402_300_800_000

# When a row of calls or chats began; calls_at is an index on just this of calls.
_TIME = "coalesce({0}.start_timestamp, nullif({0}.observed_at, 0))"

# What the rows of a call or chat are made from; that it came again changes none of them.
SAYS = (*OBSERVATIONS.names[:8], "problem")
_REST = tuple(name for name in OBSERVATIONS.names if name not in (*SAYS, "body"))


def _day(time: str) -> str:
    """The day of a time; the first of all days stands for a time that no calendar has."""
    return (
        f"CASE WHEN {time} >= 0 AND {time} < {_END_MS} "
        f"THEN strftime('%Y-%m-%d', {time} / 1000, 'unixepoch') ELSE '1970-01-01' END"
    )


@dataclass(frozen=True, slots=True)
class Kept:
    """How an engine keeps observations, in its words for a row `o`.

    `number` is where it lies while a snapshot lasts, `within` that this is between :first and
    :last, `order` one that is always the same, and `body` what the raw body reads as.
    """

    number: str
    within: str
    order: str
    body: str


def observed(kept: Kept) -> str:
    """Of each observation: its number, its day, those of its call and its chat, and all it says.

    Whether there is a body is known without reading it.
    """
    return (
        f"SELECT {kept.number}, {_day('o.first_received_at')}, "
        f"CASE WHEN c.call_id IS NOT NULL THEN {_day(_TIME.format('c'))} END, "
        f"CASE WHEN h.chat_id IS NOT NULL THEN {_day(_TIME.format('h'))} END, "
        f"{', '.join(f'o.{name}' for name in SAYS + _REST)}, "
        f"CASE WHEN {kept.body} IS NULL THEN 0 ELSE 1 END "
        "FROM observations o LEFT JOIN calls c ON c.call_id = o.entity_id "
        "LEFT JOIN chats h ON h.chat_id = o.entity_id"
    )


def _within(time: str, *, dated: bool) -> str:
    if dated:
        return f"{time} >= :since AND {time} < :until"
    return f"({time} IS NULL OR {time} < {DAY_MS} OR {time} >= {_END_MS})"


def _started(alias: str, *, dated: bool) -> str:
    """That a chat is of a day. Without an index on its time, that of its start is used."""
    if not dated:
        return _within(_TIME.format(alias), dated=False)
    start, reported = f"{alias}.start_timestamp", f"{alias}.observed_at"
    return f"({_within(start, dated=True)} OR {start} IS NULL AND {_within(reported, dated=True)})"


def observations_of(kept: Kept, *, dated: bool) -> str:
    """A day's observations, by :first and :last of their numbers, :since and :until."""
    columns = [kept.body if name == "body" else f"o.{name}" for name in OBSERVATIONS.names]
    return (
        f"SELECT {', '.join(columns)} FROM observations o WHERE {kept.within} "
        f"AND {_within('o.first_received_at', dated=dated)} ORDER BY {kept.order}"
    )


def entities_of(table: Table, *, dated: bool) -> str:
    """A table's rows of the calls or chats of a day, in the order of these and of its key."""
    parent = CALLS if table.key[0] == CALLS.key[0] else CHATS
    time = _TIME.format("p")
    within = _within(time, dated=dated) if parent is CALLS else _started("p", dated=dated)
    keys = ", ".join(f"t.{name}" for name in table.key)
    # A call's rows are found by their key, after the call: the other way round reads all of them.
    return (
        f"SELECT {', '.join(f't.{name}' for name in table.names)} "
        f"FROM {parent.name} p CROSS JOIN {table.name} t "
        f"WHERE t.{parent.key[0]} = p.{parent.key[0]} AND {within} "
        f"ORDER BY {time} NULLS FIRST, {keys}"
    )


def undated(table: Table) -> str:
    """All rows of a table that has no day."""
    return f"SELECT {', '.join(table.names)} FROM {table.name} ORDER BY {', '.join(table.key)}"
