"""/-/calls: the calls that match filters and words, with their number, minutes and cost."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from datasette import Response

from receiver import clock
from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.formatting import label
from receiver.browse.pages import (
    Reader,
    entity_url,
    fetch_rows,
    require_reader,
    reviewer,
    timezone,
)
from receiver.browse.pages.call_filters import (
    CATEGORY,
    Filters,
    chips,
    list_url,
    parse_filters,
)
from receiver.browse.pages.call_list import DEFAULT_SORT, SORTS, CallList, Totals, prepare
from receiver.browse.pages.call_search import Hit, fetch_chat_hits, fetch_hits, marked_text
from receiver.browse.pages.call_sources import (
    CALLS,
    CHATS,
)
from receiver.browse.pages.reviewing import grading_of
from receiver.browse.pages.saved_views import can_save, fetch_views
from receiver.errors import QueryNotUnderstood
from schema.sql.macros import plain

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

PAGE_SIZE = 50
# Time limit for the options of a filter, which are omitted if it takes longer.
_OPTIONS_LIMIT_MS = 200
# Time limit for the totals.
_COUNT_LIMIT_MS = 10_000


def _distinct(table: str, column: str, *, where: str = "true") -> str:
    """The distinct values of an indexed column, without a scan of the table; `where` is the
    condition of the index."""
    return f"""
WITH RECURSIVE found (value) AS (
    SELECT min({column}) FROM {table} WHERE {where}
    UNION ALL
    SELECT (SELECT min({column}) FROM {table} WHERE {where} AND {column} > found.value)
    FROM found WHERE found.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL
"""


_AGENTS = plain(
    f"SELECT value AS id, name_of_agent(value) AS name FROM ({_distinct('calls', 'agent_id')})"
)
_CHAT_AGENTS = plain("""
SELECT c.agent_id AS id, agent_of_chat(c) AS name
FROM (SELECT agent_id, max(agent_name) AS agent_name FROM chats GROUP BY agent_id) c
""")
_OUTCOMES = f"""
SELECT value AS reason, coalesce(r.category, 'unknown') AS category
FROM ({_distinct("calls", "disconnection_reason")})
LEFT JOIN disconnection_reasons r ON r.reason = value
"""
_CHAT_OUTCOMES = plain(f"""
SELECT DISTINCT {CHATS.columns["outcome"]} AS reason, chat_outcome(c) AS category
FROM (SELECT DISTINCT disconnection_reason, chat_status FROM chats) c
WHERE {CHATS.columns["outcome"]} IS NOT NULL
""")
_TAGS = """
SELECT DISTINCT name AS value FROM annotations WHERE kind = 'tag' AND removed_at IS NULL
ORDER BY name
"""
_VERSIONS = """
SELECT DISTINCT {0} AS value FROM {1} c WHERE c.agent_id = :agent AND {0} >= 0 ORDER BY 1 DESC
"""
# Kind -> filter -> query of its values. Few columns of chats have an index of their own; the others
# are read from chats_figures.
OPTIONS = {
    "call": {
        "agents": _AGENTS,
        "outcomes": _OUTCOMES,
        "tools": _distinct("tool_calls", "name"),
        "accounts": _distinct("calls", "account"),
        "versions": _VERSIONS.format("c.agent_version", "calls"),
    },
    "chat": {
        "agents": _CHAT_AGENTS,
        "outcomes": _CHAT_OUTCOMES,
        "tools": _distinct(
            "chat_messages", "name", where="role = 'tool_call_invocation' AND name IS NOT NULL"
        ),
        "accounts": "SELECT DISTINCT account AS value FROM chats WHERE account IS NOT NULL",
        "versions": _VERSIONS.format("c.version", "chats"),
    },
}


@dataclass(slots=True)
class ShownList:
    """The shown list: the entries of `fetch_entries`, each with its hits."""

    entries: list[tuple[dict[str, Any], list[Hit]]] = field(default_factory=list)
    totals: Totals | None = None
    # Chats that match the same, or calls if chats are shown.
    others: int | None = None
    next_query: str = ""
    note: str = ""
    error: QueryNotUnderstood | None = None


async def call_list_page(datasette: "Datasette", request: "Request") -> Response:
    """The page; a 400 with a hint if a filter is invalid. Raises Forbidden."""
    reader = await require_reader(datasette, request)
    filters = parse_filters(request.args.get)
    if any(request.args.get(name) == "" for name in request.args):
        # A form sends every field: the address has those that are set.
        return Response.redirect(list_url(datasette, filters.query()))
    words = filters.values.get("q", "")
    if words and " " not in words and (url := await entity_url(reader, words)):
        return Response.redirect(url)
    shown, options = await asyncio.gather(
        _fetch_shown(reader, filters, is_counted="count" in request.args),
        _fetch_options(reader, filters),
    )
    context = {
        "filters": filters,
        "asked": filters.values,
        "query": filters.query(),
        "other_query": filters.of_other_kind.query(),
        "is_chats": filters.source is not CALLS,
        "shown": shown,
        "chips": chips(filters, dict(options["agents"])),
        "lists": options,
        "choices": filters.source.choices,
        "can_save": can_save(datasette, request),
        "can_share": reviewer(datasette, request) is not None,
        "saved": [v for v in await fetch_views(datasette, request) if v.query == filters.query()],
        "has_more_filters": bool(_MORE_FILTERS & filters.used.keys()),
        "columns": _columns(filters),
        "timezone": timezone(datasette).key,
    }
    return Response.html(
        await datasette.render_template("call_list.html", context, request=request),
        status=shown.error.status if shown.error else 200,
    )


# Folded until one of them is set.
_MORE_FILTERS = {
    "since", "until", "account", "version", "connected", "number", "agent_number", "tool",
    "tool_result", "min_duration", "max_duration", "min_cost", "max_cost", "tag", "verdict",
    "reviewed", "grade",
}  # fmt: skip


async def former_search(datasette: "Datasette", request: "Request") -> Response:
    """`/-/search`: where the search was before; a redirect with the same query."""
    return Response.redirect(list_url(datasette, parse_filters(request.args.get).query()))


async def _fetch_shown(reader: Reader, filters: Filters, *, is_counted: bool) -> ShownList:
    shown = ShownList()
    try:
        found = await prepare(reader, filters, clock.now_ms())
        ids, shown.others = await asyncio.gather(
            found.fetch_ids(PAGE_SIZE + 1, after=filters.after),
            _count_others(reader, filters.of_other_kind),
        )
        page = ids[:PAGE_SIZE]
        if len(ids) > PAGE_SIZE:
            shown.next_query = filters.query(after=page[-1])
        # A list of one page is not searched a second time.
        is_complete = not (filters.after or shown.next_query)
        shown.totals, shown.entries = await asyncio.gather(
            found.fetch_totals(
                _COUNT_LIMIT_MS if is_counted else None, ids=ids if is_complete else None
            ),
            _with_hits(found, page),
        )
    except QueryInterrupted:
        shown.note = "This takes too long. Add dates or another filter."
    except QueryNotUnderstood as error:
        shown.error = error
    return shown


async def _with_hits(found: CallList, ids: list[str]) -> list[tuple[dict[str, Any], list[Hit]]]:
    entries = await found.fetch_entries(ids)
    hits = {}
    if found.query.words or found.query.characters:
        fetch = fetch_hits if found.source is CALLS else fetch_chat_hits
        hits = await fetch(found.reader, ids, found.query)
    for entry in entries:
        entry["gist"] = marked_text(entry["summary"] or "", found.query)
    return [(entry, hits.get(entry["id"], [])) for entry in entries]


async def _count_others(reader: Reader, filters: Filters) -> int | None:
    """The number of chats that match a search of calls, or the other way round."""
    if "q" not in filters.values:
        return None
    try:
        totals = await (await prepare(reader, filters, clock.now_ms())).fetch_totals()
    except (QueryInterrupted, QueryNotUnderstood):
        return None
    return totals.calls if totals else None


def _columns(filters: Filters) -> list[dict[str, str]]:
    """The columns: name, query string that sorts by it, and how it is sorted now."""
    now = filters.sort or DEFAULT_SORT
    columns = []
    for name, (title, _, is_text) in SORTS.items():
        if name in filters.source.lacks:
            continue
        # The first click sorts the newest, longest and most expensive first, and A before Z; the
        # second reverses.
        first, second = (name, f"-{name}") if is_text else (f"-{name}", name)
        wanted = second if now == first else first
        sorted_ = {name: "ascending", f"-{name}": "descending"}.get(now, "")
        query = filters.query(sort="" if wanted == DEFAULT_SORT else wanted)
        columns.append({"name": name, "title": title, "query": query, "sorted": sorted_})
    return columns


async def _fetch_options(reader: Reader, filters: Filters) -> Mapping[str, Any]:
    """The values to choose from, each list with the chosen one."""
    asked = filters.values
    queries = OPTIONS[filters.source.kind]
    agents, outcomes, tools, accounts, tags, versions = await asyncio.gather(
        _fetch_in_time(reader, queries["agents"]),
        _fetch_in_time(reader, queries["outcomes"]),
        _fetch_in_time(reader, queries["tools"]),
        _fetch_in_time(reader, queries["accounts"]),
        _fetch_in_time(reader, _TAGS),
        _fetch_in_time(reader, queries["versions"], {"agent": asked.get("agent", "")}),
    )
    return {
        "grades": grading_of(reader.datasette).questions,
        "agents": _agents(agents, asked.get("agent", "")),
        "outcomes": _outcomes(outcomes, asked.get("outcome", "")),
        "tools": _values(tools, asked.get("tool")),
        "accounts": _values(accounts, asked.get("account")),
        "tags": _values(tags, asked.get("tag")),
        "versions": _values(versions, asked.get("version")),
    }


async def _fetch_in_time(
    reader: Reader, sql: str, params: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    try:
        return await fetch_rows(reader, sql, params, limit_ms=_OPTIONS_LIMIT_MS)
    except QueryInterrupted:
        return []


def _values(rows: list[dict[str, Any]], chosen: str | None) -> list[tuple[str, str]]:
    """Pairs of value and label, which are the same."""
    found = [str(row["value"]) for row in rows]
    if chosen and chosen not in found:
        found.append(chosen)
    return [(value, value) for value in found]


def _agents(rows: list[dict[str, Any]], chosen: str) -> list[tuple[str, str]]:
    """Id and name of each, by name; of equal names with the end of the id."""
    names = [row["name"] or row["id"] for row in rows]
    found = [
        (row["id"], name if names.count(name) == 1 else f"{name} …{row['id'][-4:]}")
        for row, name in zip(rows, names, strict=True)
        if row["id"]
    ]
    if chosen and all(chosen != agent for agent, _ in found):
        found.append((chosen, chosen))
    return sorted(found, key=lambda agent: agent[1].lower())


def _outcomes(
    rows: list[dict[str, Any]], chosen: str
) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Categories with their reasons: value, label, pairs of value and label."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        groups.setdefault(row["category"], []).append((row["reason"], label(row["reason"])))
    known = {value for reasons in groups.values() for value, _ in reasons}
    if chosen and chosen not in known and chosen.removeprefix(CATEGORY) not in groups:
        if chosen.startswith(CATEGORY):
            groups[chosen.removeprefix(CATEGORY)] = []
        else:
            groups.setdefault("unknown", []).append((chosen, label(chosen)))
    return [
        (f"{CATEGORY}{category}", label(category), sorted(reasons, key=lambda pair: pair[1]))
        for category, reasons in sorted(groups.items())
    ]
