"""The list of the page of calls: its ordered rows, their number, minutes and cost."""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from receiver import clock
from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.pages import Reader, fetch_rows, timezone
from receiver.browse.pages.call_conditions import Condition, conditions
from receiver.browse.pages.call_filters import (
    CATEGORY,
    FAMILY,
    NO_END,
    Filters,
    days,
    parse_query_string,
)
from receiver.browse.pages.call_search import Query, search
from receiver.browse.pages.call_sources import (
    CALLS,
    CHATS,
    Source,
)
from receiver.browse.pages.reviewing import grading_of
from receiver.errors import QueryNotUnderstood
from schema.products import OTHER, product_family
from schema.sql.macros import plain

if TYPE_CHECKING:
    from datasette import Request

# A filter may match few of a million calls, so that finding a page of them takes long.
ROWS_LIMIT_MS = 2_000
SOON_MS = 500
TOTALS_LIMIT_MS = 350
# The limit for common words, whose totals usually take longer.
COMMON_TOTALS_LIMIT_MS = 150

# Parameter -> label, expression over `c`, whether it is text.
SORTS = {
    "time": ("Time", "{at}", False),
    "number": ("Number", "{customer}", True),
    "agent": ("Agent", "{agent_name}", True),
    "outcome": ("Outcome", "{outcome}", True),
    "sentiment": ("Sentiment", "lower(trim({sentiment}))", True),
    "success": ("Success", "{success}", False),
    "duration": ("Duration", "{duration_ms}", False),
    "cost": ("Cost", "c.combined_cost_cents", False),
}
DEFAULT_SORT = "-time"
# Nulls are last in both directions: they are replaced by a value beyond all others.
_INSTEAD_OF_NULL = {
    (False, True): "-9e999",
    (False, False): "9e999",
    (True, True): "''",
    (True, False): "char(1114111)",
}

_ROWS = {
    "call": f"""
SELECT
    c.call_id AS id, {CALLS.columns["at"]} AS at, {CALLS.columns["customer"]} AS who, c.call_type,
    c.direction, c.agent_id, c.agent_name, c.agent_version, c.disconnection_reason AS outcome,
    c.call_status AS status, r.category, a.user_sentiment AS sentiment,
    a.call_successful AS success, a.call_summary AS summary,
    CASE WHEN c.start_timestamp IS NOT NULL THEN c.duration_ms END AS duration_ms,
    c.combined_cost_cents AS cents
FROM calls c
LEFT JOIN analyses a ON a.call_id = c.call_id
LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
WHERE c.call_id IN (SELECT value FROM json_each(:ids))
""",
    "chat": f"""
SELECT
    c.chat_id AS id, {CHATS.columns["at"]} AS at, c.user_number AS who,
    c.chat_type AS call_type, c.direction, c.agent_id, {CHATS.columns["agent_name"]} AS agent_name,
    c.version AS agent_version, c.disconnection_reason AS outcome, c.chat_status AS status,
    r.category, c.user_sentiment AS sentiment, c.chat_successful AS success,
    c.chat_summary AS summary, {CHATS.columns["duration_ms"]} AS duration_ms,
    c.combined_cost_cents AS cents
FROM chats c
LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
WHERE c.chat_id IN (SELECT value FROM json_each(:ids))
""",
}

# Rollups have these filters: the totals need not read every call.
_ROLLED_UP = {
    "since": "h.day >= :since",
    "until": "h.day <= :until",
    # The plus sign makes SQLite find the calls that are not rolled up by their time.
    "agent": "+h.agent_id = :agent",
    "version": "h.agent_version = :version",
    "direction": "coalesce(h.direction, 'web') = :direction",
    "outcome": "+h.disconnection_reason = :outcome",
    "connected": plain("are_connected(h, r) = (:connected = 'yes')"),
}
_ROLLED_UP_TOTALS = """
SELECT sum(h.calls) AS calls, sum(h.duration_ms_sum) AS duration_ms, sum(h.cost_cents_sum) AS cents
FROM daily_calls h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE """
# With one of these, few calls are read.
_NARROW = frozenset({"since", "until", "account", "agent", "number", "tool", "tag", "verdict", "q"})
# With more calls than this, an index with another order is slower than reading in order.
_MANY = 20_000
# Entries of an index with the order that are read to find a page that matches the filters.
_FIRST_READ = 1_000
_COUNT_OF_AGENT = """
SELECT count(*) AS found FROM (SELECT 1 FROM {} WHERE agent_id = :agent LIMIT :many)
"""
_IDS = "SELECT count(*) AS found, json_group_array(call_id) AS ids FROM ({} LIMIT :many)"
_COUNT_OF_TOOL = """
SELECT count(*) AS found FROM (SELECT 1 FROM tool_calls WHERE name = :tool LIMIT :many)
"""


# The products of calls, by day; the limit of time to find those of a family.
_PRODUCTS = """
SELECT DISTINCT h.product FROM daily_costs h WHERE h.day BETWEEN :since AND :until
"""
_PRODUCTS_LIMIT_MS = 300


@dataclass(frozen=True, slots=True)
class First:
    """The first entries of an order, which an index of `table` has in this order."""

    table: str
    key: str
    condition: str

    def select(self, order: "Order", *, has_key: bool) -> str:
        """The first ids, or with parameters those after an entry."""
        direction, than = ("DESC", "<") if order.is_descending else ("ASC", ">")
        beyond = f"AND {self.key} {than}= :key AND ({self.key}, call_id) {than} (:key, :after)"
        return (
            f"SELECT call_id AS id, {self.key} AS key FROM {self.table} "
            f"WHERE {self.condition} {beyond if has_key else ''} "
            f"ORDER BY key {direction}, id {direction} LIMIT :count"
        )


_SENTIMENT = "lower(trim(user_sentiment))"
# By `sort` parameter. An empty sentiment is next to those that are null.
_FIRST = {
    "-duration": First("calls", "duration_ms", "duration_ms > 0"),
    "sentiment": First("analyses", _SENTIMENT, f"{_SENTIMENT} >= ''"),
    "-sentiment": First("analyses", _SENTIMENT, f"{_SENTIMENT} > ''"),
    "success": First("analyses", "call_successful", "call_successful IS NOT NULL"),
    "-success": First("analyses", "call_successful", "call_successful IS NOT NULL"),
}


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a list. `key` is an expression; rows with equal keys are ordered by id."""

    key: str
    is_descending: bool
    is_by_time: bool
    first: First | None = None


def order_of(sort: str, source: Source) -> Order:
    """The order of a `sort` parameter: -cost is descending. An unknown one means newest first."""
    name = sort.removeprefix("-")
    if name not in SORTS or name in source.lacks:
        name, sort = "time", DEFAULT_SORT
    _, expression, is_text = SORTS[name]
    is_descending = sort.startswith("-")
    key = expression.format(**source.columns)
    if name != "time":
        key = f"coalesce({key}, {_INSTEAD_OF_NULL[is_text, is_descending]})"
    first = _FIRST.get(sort) if source is CALLS else None
    return Order(key, is_descending, name == "time", first)


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over a list."""

    calls: int
    minutes: float
    cents: float


@dataclass(frozen=True, slots=True)
class CallList:
    """Calls or chats that match the filters, in an order."""

    reader: Reader
    filters: Filters
    conditions: Mapping[str, Condition]
    order: Order
    # The first and the last local day, each None if it is open.
    days: tuple[date | None, date | None]
    query: Query = field(default_factory=Query)
    # Otherwise it is a name.
    agent_is_id: bool = True

    @property
    def source(self) -> Source:
        """Calls or chats."""
        return self.filters.source

    def select(
        self, columns: str, *more: Condition, reads_all: bool = False
    ) -> tuple[str, dict[str, Any]]:
        """A query of the list, without an order, and its parameters. `reads_all`: it cannot end
        at the first entries."""
        every = [*self.conditions.values(), *more]
        is_narrow = bool(self.conditions.keys() & _NARROW)
        is_of_analyses = reads_all and self._is_of_analyses
        parts = [
            each.of_analysis
            if is_of_analyses and each.of_analysis
            else each.of_all
            if reads_all and each.of_all and (not is_narrow or each is self.conditions.get("q"))
            else each.sql
            for each in every
        ]
        where = " AND ".join(f"({part})" for part in parts) or "true"
        params = {name: value for each in every for name, value in each.params.items()}
        table = f"{self.source.table} c"
        if is_of_analyses:
            # SQLite prefers the index of keys, and would read the row of each call.
            table = "analyses a CROSS JOIN calls c INDEXED BY calls_figures"
            where = f"c.call_id = a.call_id AND {where}"
        return f"SELECT {columns} FROM {table} WHERE {where}", params

    async def fetch_ids(self, count: int, *, after: str = "") -> list[str]:
        """The ids of the first entries, or of the next ones after one of the list.

        Raises QueryInterrupted.
        """
        key = await self._fetch_key(after) if after else None
        found = await self._fetch_first(count, after, key)
        if len(found) == count:
            return found
        found = []
        for part in self.parts_after(after, key):
            if len(found) < count:
                found += await self.fetch_part(count - len(found), part)
        return found

    async def _fetch_first(
        self, count: int, after: str, key: Mapping[str, Any] | None
    ) -> list[str]:
        """The same with an index that has the first entries in order; fewer if the index ends, or
        if too few of them match the filters."""
        if (first := self.order.first) is None:
            return []
        asked: dict[str, Any] = {"count": _FIRST_READ if self.conditions else count}
        if key:
            asked |= {"key": key["key"], "after": after}
        sql = first.select(self.order, has_key=bool(key))
        try:
            rows = await fetch_rows(self.reader, sql, asked, limit_ms=SOON_MS)
            found = [row["id"] for row in rows]
            if self.conditions:
                read = Condition(f"{self._id} IN (SELECT value FROM json_each(:read))")
                sql, params = self.select(f"{self._id} AS id", read)
                params["read"] = json.dumps(found)
                rows = await fetch_rows(self.reader, sql, params, limit_ms=ROWS_LIMIT_MS)
                matching = {row["id"] for row in rows}
                found = [id_ for id_ in found if id_ in matching]
        except QueryInterrupted:
            return []
        return found[:count]

    async def fetch_neighbour(self, entity_id: str, *, is_next: bool) -> str | None:
        """The entry after one of the list, or the one before it. Raises QueryInterrupted."""
        if is_next:
            return next(iter(await self.fetch_ids(1, after=entity_id)), None)
        key = await self._fetch_key(entity_id)
        if key is None:
            return None
        back = replace(self, order=replace(self.order, is_descending=not self.order.is_descending))
        parts = list(back.parts_after(entity_id, key))
        if self.order.is_by_time:
            # Those without a time are last, so they have the others before them.
            dated = Condition(f"{self.order.key} IS NOT NULL")
            parts = parts[:1] if key["key"] is not None else [*parts, dated]
        for part in parts:
            if found := await back.fetch_part(1, part):
                return found[0]
        return None

    async def _fetch_key(self, entity_id: str) -> dict[str, Any] | None:
        """The sort key of an entry; None if it is not stored."""
        sql = f"SELECT {self.order.key} AS key FROM {self.source.table} c WHERE {self._id} = :id"
        return next(iter(await fetch_rows(self.reader, sql, {"id": entity_id})), None)

    @property
    def _id(self) -> str:
        return self.source.columns["key"]

    @property
    def _is_of_analyses(self) -> bool:
        """Whether every filter is one of the analysis, and the reader reads the tables, not views
        that replace them."""
        filters = self.conditions.values()
        is_replaced = self.reader.is_masked or self.reader.is_limited
        return bool(filters) and all(each.of_analysis for each in filters) and not is_replaced

    @property
    def _has_common_words(self) -> bool:
        """Whether many texts have the words that are searched for."""
        return "q" in self.conditions and self.conditions["q"].is_common

    def parts_after(self, after: str, key: Mapping[str, Any] | None) -> Iterator[Condition]:
        """The conditions of the entries after one, in order.

        Entries without a time are last and a separate part, because of the index of times.
        """
        value, than = self.order.key, "<" if self.order.is_descending else ">"
        params = {"after": after, "key": key and key["key"]}
        beyond = Condition(
            f"{value} {than}= :key AND ({value}, {self._id}) {than} (:key, :after)", params
        )
        if not self.order.is_by_time:
            yield beyond if key else Condition("true")
        elif key is None or key["key"] is not None:
            yield beyond if key else Condition(f"{value} IS NOT NULL")
            yield Condition(f"{value} IS NULL")
        else:
            yield Condition(f"{value} IS NULL AND {self._id} {than} :after", {"after": after})

    async def fetch_part(self, count: int, part: Condition) -> list[str]:
        """The first ids of a part of the list. Raises QueryInterrupted."""
        if self.order.is_by_time and self._has_common_words and self.conditions["q"].of_all:
            # A page is full soon, unless few of these calls have the words.
            with suppress(QueryInterrupted):
                return await self._fetch_part(count, part, SOON_MS, reads_all=False)
            return await self._fetch_part(count, part, ROWS_LIMIT_MS, reads_all=True)
        reads_all = not self.order.is_by_time
        return await self._fetch_part(count, part, ROWS_LIMIT_MS, reads_all=reads_all)

    async def _fetch_part(
        self, count: int, part: Condition, limit_ms: int, *, reads_all: bool
    ) -> list[str]:
        direction = "DESC" if self.order.is_descending else "ASC"
        columns = f"{self._id} AS id, {self.order.key} AS key"
        sql, params = self.select(columns, part, reads_all=reads_all)
        sql += f" ORDER BY key {direction}, id {direction} LIMIT :count"
        params["count"] = count
        found = await fetch_rows(self.reader, sql, params, limit_ms=limit_ms)
        return [row["id"] for row in found]

    async def fetch_entries(self, ids: list[str]) -> list[dict[str, Any]]:
        """The columns that the list shows of these entries, in order."""
        found = await fetch_rows(self.reader, _ROWS[self.source.kind], {"ids": json.dumps(ids)})
        by_id = {row["id"]: row for row in found}
        return [by_id[id_] for id_ in ids if id_ in by_id]

    async def fetch_totals(
        self, limit_ms: int | None = None, *, ids: list[str] | None = None
    ) -> Totals | None:
        """Number, minutes and cost of the whole list; None if that takes too long. `ids` are those
        of all its entries, if they are known already."""
        limit_ms = limit_ms or (
            COMMON_TOTALS_LIMIT_MS if self._has_common_words else TOTALS_LIMIT_MS
        )
        if ids is None:
            sql, params = self.rolled_up_totals() or self.scanned_totals()
        else:
            known = Condition(f"{self._id} IN (SELECT value FROM json_each(:ids))")
            sql, params = replace(self, conditions={"ids": known}).scanned_totals()
            params["ids"] = json.dumps(ids)
        try:
            [row] = await fetch_rows(self.reader, sql, params, limit_ms=limit_ms)
        except QueryInterrupted:
            return None
        return Totals(row["calls"] or 0, (row["duration_ms"] or 0) / 60_000, row["cents"] or 0)

    def scanned_totals(self) -> tuple[str, dict[str, Any]]:
        """The query of the totals that reads every entry."""
        # A sum of integers may overflow, which is an error.
        return self.select(
            f"count(*) AS calls, sum({self.source.columns['duration_ms']} + 0.0) AS duration_ms, "
            "sum(c.combined_cost_cents) AS cents",
            reads_all=True,
        )

    def rolled_up_totals(self) -> tuple[str, dict[str, Any]] | None:
        """The query of the totals that reads rolled-up days; None if they lack a filter."""
        values, names = self.filters.used, self.conditions.keys()
        is_of_one_reason = not values.get("outcome", "").startswith(CATEGORY)
        if self.source is not CALLS or names - _ROLLED_UP.keys() or not self.agent_is_id:
            return None
        parts = [_ROLLED_UP[name] for name in names if name != "outcome" or is_of_one_reason]
        params: dict[str, Any] = {name: values[name] for name in names if name in values}
        first, last = self.days
        params |= {"since": first and first.isoformat(), "until": last and last.isoformat()}
        if values.get("outcome") == NO_END:
            parts.append("h.disconnection_reason IS NULL")
        elif not is_of_one_reason:
            parts.append("r.category = :outcome")
            params["outcome"] = values["outcome"].removeprefix(CATEGORY)
        if "version" in params:
            params["version"] = int(params["version"])
        return f"{_ROLLED_UP_TOTALS}{' AND '.join(parts) or 'true'}", params


@dataclass(frozen=True, slots=True)
class ListPlace:
    """The entries around one of a list, and the query string of the list."""

    previous: str | None
    next: str | None
    query: str


async def place_in_list(reader: Reader, request: "Request", call_id: str) -> ListPlace | None:
    """The calls around one in the list that its address names, if it does: `?list=` with the query
    string of the page of calls."""
    if not (text := request.args.get("list")):
        return None
    filters = parse_query_string(text)
    try:
        found = await prepare(reader, filters, clock.now_ms())
        around = [await found.fetch_neighbour(call_id, is_next=n) for n in (False, True)]
    except (QueryInterrupted, QueryNotUnderstood):
        return None
    return ListPlace(around[0], around[1], filters.query())


async def _fetch_few(reader: Reader, name: str, condition: Condition, key: str) -> Condition | None:
    """The same condition as a list of ids; None if so many calls match that the list is read in its
    order instead.

    Raises QueryInterrupted."""
    params = {**condition.params, "many": _MANY + 1}
    [row] = await fetch_rows(reader, _IDS.format(condition.ids), params)
    if row["found"] > _MANY:
        return None
    ids = f"{name}_ids"
    return Condition(f"{key} IN (SELECT value FROM json_each(:{ids}))", {ids: row["ids"]})


async def _fetch_family(
    reader: Reader, filters: Filters, ends: tuple[date | None, date | None]
) -> list[str] | None:
    """The products of the chosen family that calls of these days were billed for; None if there is
    no such filter, or if they cannot be found quickly."""
    family = filters.used.get("product", "").removeprefix(FAMILY)
    if filters.source is not CALLS or family == filters.used.get("product", ""):
        return None
    since, until = (day and day.isoformat() for day in ends)
    params = {"since": since or "", "until": until or "9999"}
    try:
        rows = await fetch_rows(reader, _PRODUCTS, params, limit_ms=_PRODUCTS_LIMIT_MS)
    except QueryInterrupted:
        return None
    names = [row["product"] for row in rows if row["product"] is not None]
    return [name for name in names if (product_family(name) or OTHER) == family]


async def prepare(reader: Reader, filters: Filters, now_ms: int) -> CallList:
    """The list of these filters. Raises QueryNotUnderstood and QueryInterrupted."""
    zone, counts = timezone(reader.datasette), {}
    for name, sql in (("agent", _COUNT_OF_AGENT), ("tool", _COUNT_OF_TOOL)):
        # Tools of chats have no index.
        is_counted = name == "agent" or filters.source is CALLS
        if is_counted and (value := filters.used.get(name)):
            params = {name: value, "many": _MANY + 1}
            [row] = await fetch_rows(reader, sql.format(filters.source.table), params)
            counts[name] = row["found"]
    agent_is_id = counts.get("agent") != 0
    ends = days(filters, zone, now_ms)
    found = conditions(
        filters,
        zone,
        now_ms,
        agent_is_id=agent_is_id,
        many=frozenset(name for name, count in counts.items() if count > _MANY),
        has_rowid=not reader.is_limited,
        grading=grading_of(reader.datasette),
        of_family=await _fetch_family(reader, filters, ends),
    )
    key = filters.source.columns["key"]
    for name, condition in found.items():
        if condition.ids and (few := await _fetch_few(reader, name, condition, key)):
            found[name] = few
    if reader.is_masked:
        # Masked readers cannot filter by hidden values.
        for name in ("number", "agent_number"):
            found.pop(name, None)
    query = Query()
    if (words := filters.values.get("q")) and not reader.is_masked:
        searched = await search(reader, filters.source, words)
        found["q"], query = searched.condition, searched.query
    order = order_of(filters.sort, filters.source)
    return CallList(reader, filters, found, order, ends, query, agent_is_id)
