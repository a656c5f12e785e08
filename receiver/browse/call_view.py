"""The tables' rows of one call -> what its page says. Pure."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from receiver.browse.bar import Bar, bar
from receiver.browse.bounded import Page, cut, first, page_of, weight_of_entry, weight_of_row
from receiver.browse.conversation import Conversation, Entry, conversation
from receiver.browse.text import words_of

Row = Mapping[str, Any]
Tables = Mapping[str, list[dict[str, Any]]]

TRACK_TABLES = ("utterances", "utterance_words", "tool_calls", "node_transitions", "markers")
_RECORDINGS = {"recording": "Recording", "recording_multi_channel": "Two channels"}
_DOCUMENTS = {
    "public_log": "Retell's log",
    "knowledge_base_retrieved_contents": "Retrieved from the knowledge base",
}
_SOURCES = {
    "retell_llm_dynamic_variables": "Variables given",
    "collected_dynamic_variables": "Variables collected",
    "metadata": "Metadata",
    "custom_attributes": "Custom attributes",
    "custom_sip_headers": "SIP headers",
}


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
    bar: Bar | None
    recordings: list[tuple[str, str]]
    documents: list[tuple[str, str]]
    costs: list[dict[str, Any]]
    latencies: list[dict[str, Any]]
    analysis_fields: list[dict[str, Any]]
    attributes: list[tuple[str, list[dict[str, Any]]]]
    transfers: list[dict[str, Any]]

    @property
    def started_at(self) -> int | None:
        """Start, or when Retell reported a call that never connected; milliseconds."""
        return self.call["start_timestamp"] or self.call["observed_at"] or None

    @property
    def silence(self) -> str:
        """Why there are no words to read."""
        if self.call["call_status"] in ("registered", "ongoing"):
            return "The call is still going on, as far as Retell has said."
        if self.call["data_storage_setting"] == "basic_attributes_only":
            return "The agent's storage setting lets Retell keep no transcript."
        if self.call["start_timestamp"] is None:
            return "The call never connected: nobody spoke."
        return "Nothing was said, or Retell sent no transcript."


def call_view(
    tables: Tables, *, scrubbed: bool, number: int = 1, position: int | None = None
) -> CallView:
    """Show a call as it was said, or, with `scrubbed`, what Retell removed personal data from;
    page `number` of its conversation, or the one with the entry at `position`."""
    tables = {name: [cut(row) for row in rows] for name, rows in tables.items()}
    call = tables["calls"][0]
    variants = _variants(tables)
    is_scrubbed = "scrubbed" in variants and (scrubbed or "plain" not in variants)
    prefix = "scrubbed_" if is_scrubbed else ""
    session = track(tables, f"{prefix}session")
    index = None
    if position is not None:
        index = bisect_left([entry.position for entry in session.entries], position)
    duration_ms = call["duration_ms"]
    urls = {row["kind"]: row["url"] for row in tables["media"] if _is_web(row["url"])}
    who = call["from_number"] if call["direction"] == "inbound" else call["to_number"]
    return CallView(
        call=call,
        title=_title(call, who),
        who=who,
        analysis=next(iter(tables["analyses"]), {}),
        metrics=next(iter(tables["call_metrics"]), {}),
        is_scrubbed=is_scrubbed,
        variants=variants,
        before=_beside(tables, f"{prefix}pre_session"),
        conversation=session,
        page=page_of(session.entries, number, weight_of_entry, index=index),
        after=_beside(tables, f"{prefix}post_session"),
        bar=bar(session, None if duration_ms is None else duration_ms / 1000),
        recordings=[(n, urls[prefix + k]) for k, n in _RECORDINGS.items() if prefix + k in urls],
        documents=[(n, urls[k]) for k, n in _DOCUMENTS.items() if k in urls],
        costs=first(tables["product_costs"], weight_of_row),
        latencies=first(
            sorted(tables["latencies"], key=lambda row: row["component"] != "e2e"), weight_of_row
        ),
        analysis_fields=first(
            (r for r in tables["attributes"] if r["source"] == "custom_analysis_data"),
            weight_of_row,
        ),
        attributes=_attributes(tables["attributes"]),
        transfers=first(
            sorted(tables["transfers"], key=lambda row: row["observed_at"]), weight_of_row
        ),
    )


def track(tables: Tables, name: str) -> Conversation:
    """The conversation of one track."""
    parts = [[row for row in tables[t] if row["track"] == name] for t in TRACK_TABLES]
    found = conversation(*parts)
    for turn in found.turns:
        turn.tools = first(turn.tools, weight_of_entry)
    return found


def _beside(tables: Tables, name: str) -> list[Entry]:
    """What was done before or after the call."""
    return first(track(tables, name).entries, weight_of_entry)


def _variants(tables: Tables) -> list[str]:
    """plain and scrubbed, as far as there is a transcript or a recording of the kind."""
    found = {row["track"].startswith("scrubbed_") for t in TRACK_TABLES for row in tables[t]}
    for row in tables["media"]:
        if row["kind"].removeprefix("scrubbed_") in _RECORDINGS:
            found.add(row["kind"].startswith("scrubbed_"))
    return [name for name, flag in (("plain", False), ("scrubbed", True)) if flag in found]


def _title(call: Row, who: str | None) -> str:
    if call["call_type"] == "web_call":
        return "Web call"
    number = who or "an unknown number"
    return f"{'Call from' if call['direction'] == 'inbound' else 'Call to'} {number}"


def _is_web(url: str | None) -> bool:
    return bool(url) and str(url).startswith(("https://", "http://", "/"))


def _attributes(rows: Sequence[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Label and rows of each source that has any, the custom analysis apart."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in _SOURCES}
    for row in rows:
        if row["source"] != "custom_analysis_data":
            found.setdefault(row["source"], []).append(row)
    return [
        (_SOURCES.get(s, words_of(s)), first(rows, weight_of_row))
        for s, rows in found.items()
        if rows
    ]
