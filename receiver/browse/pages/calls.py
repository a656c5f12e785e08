"""The page of one call, /-/call/<call_id>, and the same as JSON."""

import json
import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from datasette import NotFound, Response
from datasette.utils import tilde_decode

from receiver.browse.formatting import label
from receiver.browse.pages import Reader, call_url, fetch_rows, require_reader
from receiver.browse.pages.call_filters import calls_url
from receiver.browse.pages.call_list import place_in_list
from receiver.browse.pages.call_object import call_object
from receiver.browse.pages.conversation import (
    MAX_CHARACTERS,
    Conversation,
    Entry,
    Page,
    conversation,
    entry_weight,
    limited,
    page_of,
    parse_number,
    parse_seconds,
    row_weight,
    shorten,
)
from receiver.browse.pages.media import kept_files, media_url
from receiver.browse.pages.review_queue import place_of
from receiver.browse.pages.reviewing import fetch_review
from receiver.browse.pages.sharing import fetch_links
from receiver.browse.pages.speaker_timeline import SpeakerTimeline, speaker_timeline
from receiver.store.sql import SELECT
from schema.billing import explain_cost
from schema.merge import began_at
from schema.tables import CALL_TABLES

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

Row = Mapping[str, Any]
Tables = Mapping[str, list[dict[str, Any]]]

# call_log is used where a call's time or its other number decides: its columns are the expressions
# of indexes, so that each query reads no more than it shows.
_NEIGHBOUR = """
SELECT call_id, started_at_ms AS at FROM call_log
WHERE who = :value AND started_at_ms {than}= :at AND (started_at_ms, call_id) {than} (:at, :call_id)
ORDER BY started_at_ms {order}, call_id {order} LIMIT 1
"""
# By the agent's id, as its name may change. Skips calls that never connected.
_AGENT_NEIGHBOUR = """
SELECT call_id, start_timestamp AS at FROM calls
WHERE agent_id = :value AND (start_timestamp, call_id) {than} (:at, :call_id)
ORDER BY start_timestamp {order}, call_id {order} LIMIT 1
"""
_COUNT_OF_NUMBER = """
SELECT count(*) AS calls FROM (SELECT 1 FROM call_log WHERE who = :value LIMIT :most)
"""
_COUNT_OF_AGENT = """
SELECT count(*) AS calls FROM (SELECT 1 FROM calls WHERE agent_id = :value LIMIT :most)
"""
# Previous, next, and how many there are.
_NEIGHBOURS = {
    name: (neighbour.format(than="<", order="DESC"), neighbour.format(than=">", order="ASC"), count)
    for name, neighbour, count in (
        ("number", _NEIGHBOUR, _COUNT_OF_NUMBER),
        ("agent", _AGENT_NEIGHBOUR, _COUNT_OF_AGENT),
    )
}
# The count stops here.
MOST = 1000
REASON = "SELECT category, description FROM disconnection_reasons WHERE reason = ?"
# Quarantined bodies of the call, which could not be projected.
QUARANTINED = """
SELECT count(*) AS bodies, min(problem) AS problem FROM observations
WHERE entity_id = ? AND problem IS NOT NULL
"""
_ERASED = "SELECT 1 FROM erasures WHERE entity_id = ? AND scope = 'all'"
# Numbers and addresses that identify one caller, unlike "anonymous".
IS_NUMBER = re.compile(r"\+?[0-9]{6,}|.*@.*")
# Masked numbers are filtered by their last digits, which other numbers may share.
_IS_WHOLE = re.compile(r"\+[0-9]{7,}|.*@.*")

_TRACK_TABLES = ("utterances", "utterance_words", "tool_calls", "node_transitions", "markers")
RECORDINGS = {"recording": "Recording", "recording_multi_channel": "Two channels"}
_DOCUMENTS = {
    "public_log": "Retell's log",
    "knowledge_base_retrieved_contents": "Retrieved from the knowledge base",
}
_ATTRIBUTES = {
    "retell_llm_dynamic_variables": "Variables given",
    "collected_dynamic_variables": "Variables collected",
    "metadata": "Metadata",
    "custom_attributes": "Custom attributes",
    "custom_sip_headers": "SIP headers",
}
ANALYSIS = "Analysis"


class Media(NamedTuple):
    """A recording or log: its label, its URL, and the URL of its download if it is stored."""

    label: str
    url: str
    download: str | None


@dataclass(frozen=True, slots=True)
class CallView:
    """What the page of a call shows; rows as in the tables."""

    call: Row
    title: str
    who: str | None
    analysis: Row
    metrics: Row
    is_scrubbed: bool
    variants: list[str]
    before: list[Entry]
    conversation: Conversation
    page: Page[Entry]
    after: list[Entry]
    timeline: SpeakerTimeline | None
    recordings: list[Media]
    documents: list[Media]
    costs: list[dict[str, Any]]
    why_dear: list[str]
    latencies: list[dict[str, Any]]
    analysis_fields: list[dict[str, Any]]
    attributes: list[tuple[str, list[dict[str, Any]]]]
    transfers: list[dict[str, Any]]

    @property
    def started_at(self) -> int | None:
        """The start of the call, or the report of one that never connected, in milliseconds."""
        return began_at(self.call["start_timestamp"], self.call["observed_at"])

    @property
    def why_empty(self) -> str:
        """The reason why there is no conversation."""
        if self.call["call_status"] in ("registered", "ongoing"):
            return "The call is in progress, as far as Retell has reported."
        if self.call["data_storage_setting"] == "basic_attributes_only":
            return "The agent's storage setting excludes transcripts."
        if self.call["start_timestamp"] is None:
            return "The call never connected."
        return "No conversation, or Retell sent no transcript."


async def call_page(datasette: "Datasette", request: "Request") -> Response:
    """The page of a call. Raises Forbidden, NotFound."""
    reader = await require_reader(datasette, request)
    call_id = tilde_decode(request.url_vars["call_id"])
    kept = {kind: media_url(datasette, call_id, kind) for kind in await kept_files(reader, call_id)}
    context = await call_context(reader, request, call_id, kept)
    [quarantined] = await fetch_rows(reader, QUARANTINED, [call_id])
    context |= {
        "quarantined": quarantined,
        "review": await fetch_review(reader, request, call_id),
        "links": await fetch_links(reader, request, call_id),
        "place": await place_of(reader, request, call_id),
        "listed": await place_in_list(reader, request, call_id),
        "neighbours": await _fetch_neighbours(reader, context["view"]),
        "here": call_url(datasette, call_id),
    }
    return Response.html(await datasette.render_template("call.html", context, request=request))


async def call_context(
    reader: Reader, request: "Request", call_id: str, kept: Mapping[str, str]
) -> dict[str, Any]:
    """The template's context of the call. `kept`: URLs of stored files by kind.

    Raises NotFound.
    """
    tables = await _fetch_tables(reader, call_id)
    view = call_view(
        tables,
        kept=kept,
        scrubbed=reader.is_masked or "scrubbed" in request.args,
        number=parse_number(request.args.get("page")) or 1,
        position=parse_number(request.args.get("at")),
        second=parse_seconds(request.args.get("t")),
    )
    # Without transcripts, which the page shows as the conversation.
    shown = json.dumps(call_object(tables, transcripts=False), indent=2, ensure_ascii=False)
    reasons = await fetch_rows(reader, REASON, [view.call["disconnection_reason"]])
    return {
        "view": view,
        "reason": next(iter(reasons), {}),
        "object": shown if len(shown) <= MAX_CHARACTERS else f"{shown[:MAX_CHARACTERS]}…",
        "database": reader.database,
    }


async def call_json(datasette: "Datasette", request: "Request") -> Response:
    """The call object. Raises Forbidden, NotFound."""
    reader = await require_reader(datasette, request)
    tables = await _fetch_tables(reader, tilde_decode(request.url_vars["call_id"]))
    return Response.json(call_object(tables))


async def _fetch_tables(reader: Reader, call_id: str) -> dict[str, list[dict[str, Any]]]:
    """Every table's rows of the call."""
    tables = {t.name: await fetch_rows(reader, SELECT[t.name], [call_id]) for t in CALL_TABLES}
    if not tables["calls"]:
        raise await not_found(reader, "call", call_id)
    return tables


async def not_found(reader: Reader, kind: str, entity_id: str) -> NotFound:
    """The error for a call or chat without a row, which may have been erased."""
    if await fetch_rows(reader, _ERASED, [entity_id]):
        return NotFound(f"This {kind} was erased.")
    return NotFound(f"No {kind} with this id is stored.")


async def _fetch_neighbours(reader: Reader, view: CallView) -> list[dict[str, Any]]:
    """Previous and next call of the number and of the agent, and how many there are, as far as
    there are any."""
    found = []
    for name, value in (("number", view.who), ("agent", view.call["agent_id"])):
        if not value or (name == "number" and not IS_NUMBER.fullmatch(value)):
            continue
        previous_sql, next_sql, count_sql = _NEIGHBOURS[name]
        params = {"value": value, "at": view.started_at, "call_id": view.call["call_id"]}
        before = await fetch_rows(reader, previous_sql, params)
        after = await fetch_rows(reader, next_sql, params)
        if before or after:
            [counted] = await fetch_rows(reader, count_sql, {"value": value, "most": MOST + 1})
            is_exact = name == "agent" or _IS_WHOLE.fullmatch(value)
            pair = {
                "of": f"This {name}",
                "previous": next(iter(before), None),
                "next": next(iter(after), None),
                "count": counted["calls"] if is_exact and counted["calls"] <= MOST else None,
                "url": calls_url(reader.datasette, **{name: value}),
            }
            found.append(pair)
    return found


def call_view(
    tables: Tables,
    *,
    kept: Mapping[str, str] = MappingProxyType({}),
    scrubbed: bool,
    number: int = 1,
    position: int | None = None,
    second: float | None = None,
) -> CallView:
    """What to show of a call: page `number` of its conversation, or the page of the entry at
    `position` or at `second`. `scrubbed`: the variant from which Retell removed personal data.
    `kept`: addresses of kept recordings by kind."""
    tables = {name: [shorten(row) for row in rows] for name, rows in tables.items()}
    call = tables["calls"][0]
    variants = _variants(tables)
    is_scrubbed = "scrubbed" in variants and (scrubbed or "plain" not in variants)
    prefix = "scrubbed_" if is_scrubbed else ""
    session = _track(tables, f"{prefix}session")
    index = None
    if position is not None:
        index = bisect_left([entry.position for entry in session.entries], position)
    elif second is not None:
        index = session.index_at(second)
    duration_ms = call["duration_ms"]
    urls = {row["kind"]: row["url"] for row in tables["media"] if _is_web(row["url"])}
    urls.update(kept)
    who = call["from_number"] if call["direction"] == "inbound" else call["to_number"]
    latencies = sorted(tables["latencies"], key=lambda row: row["component"] != "e2e")
    analysis = [r for r in tables["attributes"] if r["source"] == "custom_analysis_data"]
    return CallView(
        call=call,
        title=_title(call, who),
        who=who,
        analysis=next(iter(tables["analyses"]), {}),
        metrics=next(iter(tables["call_metrics"]), {}),
        is_scrubbed=is_scrubbed,
        variants=variants,
        before=_limited_track(tables, f"{prefix}pre_session"),
        conversation=session,
        page=page_of(session.entries, number, entry_weight, index=index),
        after=_limited_track(tables, f"{prefix}post_session"),
        timeline=speaker_timeline(session, None if duration_ms is None else duration_ms / 1000),
        recordings=_media({prefix + k: n for k, n in RECORDINGS.items()}, urls, kept),
        documents=_media(_DOCUMENTS, urls, kept),
        costs=limited(tables["product_costs"], row_weight),
        why_dear=explain_cost(
            call, next(iter(tables["call_metrics"]), {}), tables["product_costs"]
        ),
        latencies=limited(latencies, row_weight),
        analysis_fields=limited(analysis, row_weight),
        attributes=_attributes(tables["attributes"]),
        transfers=limited(
            sorted(tables["transfers"], key=lambda row: row["observed_at"]), row_weight
        ),
    )


def _track(tables: Tables, name: str) -> Conversation:
    """The conversation of one track."""
    parts = [[row for row in tables[t] if row["track"] == name] for t in _TRACK_TABLES]
    found = conversation(*parts)
    for turn in found.turns:
        turn.tools = limited(turn.tools, entry_weight)
    return found


def _limited_track(tables: Tables, name: str) -> list[Entry]:
    """The entries before or after the call."""
    return limited(_track(tables, name).entries, entry_weight)


def _variants(tables: Tables) -> list[str]:
    """plain and scrubbed, as far as there is a transcript or a recording of the variant."""
    found = {row["track"].startswith("scrubbed_") for t in _TRACK_TABLES for row in tables[t]}
    for row in tables["media"]:
        if row["kind"].removeprefix("scrubbed_") in RECORDINGS:
            found.add(row["kind"].startswith("scrubbed_"))
    return [name for name, flag in (("plain", False), ("scrubbed", True)) if flag in found]


def _title(call: Row, who: str | None) -> str:
    if call["call_type"] == "web_call":
        return "Web call"
    if not who:
        return label(call["call_type"] or "call")
    return f"{'Call from' if call['direction'] == 'inbound' else 'Call to'} {who}"


def _media(
    labels: Mapping[str, str], urls: Mapping[str, str], kept: Mapping[str, str]
) -> list[Media]:
    return [
        Media(name, urls[kind], f"{kept[kind]}?download" if kind in kept else None)
        for kind, name in labels.items()
        if kind in urls
    ]


def _is_web(url: str | None) -> bool:
    return bool(url) and str(url).startswith(("https://", "http://", "/"))


def _attributes(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Label and rows of each source that has any, except the custom analysis."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in _ATTRIBUTES}
    for row in rows:
        if row["source"] != "custom_analysis_data":
            found.setdefault(row["source"], []).append(row)
    return [
        (_ATTRIBUTES.get(source) or label(source), limited(rows, row_weight))
        for source, rows in found.items()
        if rows
    ]
