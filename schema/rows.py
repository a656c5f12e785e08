"""One call -> {slice: rows}.

A slice is a table, or the rows of a table that come from one field of the call: a track, an
attribute source, a kind of media. When fields change, only their slices are projected again.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schema import drift
from schema.events import RawFields, value, values
from schema.merge import Observation, began_at, is_over
from schema.models import Call, CallAnalysis, LatencyGroup
from schema.tables import CALLS
from schema.transcript import TRACK_TABLES, Row, json_text, metrics_row, text, track_rows

# A table, and the value of its discriminator if several fields share the table.
Slice = tuple[str, str | None]
Rows = dict[Slice, list[Row]]

# track -> the fields it comes from; the first one that is present is used alone.
TRACKS = {
    "session": ("transcript_with_tool_calls", "transcript_object"),
    "pre_session": ("pre_session_transcript_with_tool_calls",),
    "post_session": ("post_session_transcript_with_tool_calls",),
    "scrubbed_session": ("scrubbed_transcript_with_tool_calls",),
    "scrubbed_pre_session": ("scrubbed_pre_session_transcript_with_tool_calls",),
    "scrubbed_post_session": ("scrubbed_post_session_transcript_with_tool_calls",),
}
ATTRIBUTE_SOURCES = (
    "metadata",
    "retell_llm_dynamic_variables",
    "collected_dynamic_variables",
    "custom_sip_headers",
    "custom_attributes",
)
MEDIA_KINDS = (
    "recording",
    "recording_multi_channel",
    "scrubbed_recording",
    "scrubbed_recording_multi_channel",
    "public_log",
    "knowledge_base_retrieved_contents",
)
# The three groups that were fields of their own until 2024-11.
OLD_LATENCIES = ("e2e_latency", "llm_latency", "llm_websocket_network_rtt_latency")

# The column that distinguishes the slices of a table.
DISCRIMINATORS = dict.fromkeys(TRACK_TABLES, "track") | {"attributes": "source", "media": "kind"}

SLICES: dict[Slice, tuple[str, ...]] = {
    ("analyses", None): ("call_analysis",),
    ("transcripts", None): ("transcript",),
    **{(table, track): fields for track, fields in TRACKS.items() for table in TRACK_TABLES},
    ("product_costs", None): ("call_cost",),
    ("latencies", None): ("latency", *OLD_LATENCIES),
    **{("attributes", source): (source,) for source in ATTRIBUTE_SOURCES},
    ("attributes", "custom_analysis_data"): ("call_analysis",),
    **{("media", kind): (f"{kind}_url",) for kind in MEDIA_KINDS},
    ("call_metrics", None): TRACKS["session"],
}

# Columns of calls whose field has another name; the first field that is present is used.
_COLUMN_FIELDS = {
    "agent_version": ("agent_version", "version"),
    "combined_cost_cents": ("call_cost",),
    "total_duration_seconds": ("call_cost",),
    "total_duration_unit_price_cents_per_second": ("call_cost",),
    "llm_requests": ("llm_token_usage",),
    "llm_tokens_average": ("llm_token_usage",),
    "twilio_call_sid": ("telephony_identifier",),
}
_COLUMNS_OF_CALLS = CALLS.names
# Columns that come from several fields or from the observations.
_DERIVED = ("call_id", "cost_is_final", "extra", "level", "observed_at", "updated_at", "account")
_COLUMNS = {
    column: _COLUMN_FIELDS.get(column, (column,))
    for column in _COLUMNS_OF_CALLS
    if column not in _DERIVED
}
_PLAIN_COLUMNS = _COLUMNS.keys() - _COLUMN_FIELDS.keys()
# Alternative fields; the first one that is present is used.
_CHOICES = [names for names in {*SLICES.values(), *_COLUMNS.values()} if len(names) > 1]
# A later alternative -> the field that is used instead of it if present.
_FIRST = {second: first for first, *rest in _CHOICES for second in rest}

# Fields that change; None for one that no observation has.
Changes = Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True)
class Stamp:
    """The columns of calls and chats that come from the observations; times in milliseconds."""

    level: int
    observed_at: int
    updated_at: int
    account: str | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """Decoded fields of a call: the call, the rows of its parts, and what is unknown in them."""

    fields: Changes
    call: Call
    rows: Rows
    unknown: Sequence[drift.Unknown]


def changes(before: RawFields, after: RawFields) -> Changes:
    """The fields whose bytes differ, with their alternatives: all that the changed slices need."""
    names = {name for name, raw in after.items() if before.get(name) != raw}
    for choice in _CHOICES:
        if not names.isdisjoint(choice):
            names.update(choice)
    return {name: after.get(name) for name in names}


def is_undecided(names: Iterable[str], present: Collection[str]) -> bool:
    """Whether an alternative of one of `names` would be used instead of it and is not `present`."""
    return any(_FIRST[name] not in present for name in names if name in _FIRST)


def decode(call_id: str, fields: Changes) -> Decoded:
    """Decode `fields`: nearly all the work of a projection, without a database.

    The rows are those of every table except calls, transfers and unknowns. A slice without rows may
    be missing.
    """
    superseded = {second for second, first in _FIRST.items() if fields.get(first) is not None}
    decoded = values({k: v for k, v in fields.items() if v is not None and k not in superseded})
    call = Call.model_validate(decoded)
    unknown = drift.in_parts(call) + drift.in_times(decoded, call)
    rows: Rows = {
        ("product_costs", None): _product_costs(call_id, call),
        ("latencies", None): _latencies(call_id, call),
    }
    if call.transcript is not None:
        rows["transcripts", None] = [(call_id, call.transcript)]
    for track, sources in TRACKS.items():
        source = next((f for f in sources if f in call.model_fields_set), None)
        if source:
            entries = getattr(call, source)
            unknown += drift.in_entries(track, entries)
            for table, slice_rows in track_rows(call_id, track, entries).items():
                rows[table, track] = slice_rows
    spoken, tools = rows.get(("utterances", "session"), []), rows.get(("tool_calls", "session"), [])
    if spoken or tools:
        rows["call_metrics", None] = [metrics_row(call_id, spoken, tools)]
    if call.call_analysis:
        rows |= _analysis(call_id, call.call_analysis)
    for source in ATTRIBUTE_SOURCES:
        rows["attributes", source] = _attributes(call_id, source, getattr(call, source))
    for kind in MEDIA_KINDS:
        if url := getattr(call, f"{kind}_url"):
            rows["media", kind] = [(call_id, kind, url)]
    return Decoded(fields, call, rows, unknown)


def project(
    call_id: str,
    fields: Changes,
    stamp: Stamp,
    envelope: Iterable[str] = (),
    *,
    decoded: Decoded | None = None,
    stored: Mapping[str, Sequence[Row]] | None = None,
) -> Rows:
    """The rows of a call by slice, including empty ones. `envelope` are the keys beside the call in
    its observations; `decoded` are these fields, and perhaps others, if decoded before.

    With `stored`, the rows of calls and unknowns, `fields` are `changes`, and only their slices are
    returned.
    """
    if decoded is None or not fields.items() <= decoded.fields.items():
        decoded = decode(call_id, fields)
    columns, extra = _columns(decoded.call), decoded.call.model_extra or {}
    slices, unknown = list(SLICES), [*decoded.unknown]
    if stored:
        before = dict(zip(_COLUMNS_OF_CALLS, stored["calls"][0], strict=True))
        slices = [each for each, names in SLICES.items() if names[0] in fields]
        columns |= {c: before[c] for c, names in _COLUMNS.items() if names[0] not in fields}
        # json.loads, because this is one level deeper than the limit of the parser of bodies.
        extra = {name: value for name, value in extra.items() if name in fields}
        extra = json.loads(before["extra"] or "{}") | extra
        unknown = [each for each in unknown if _is_decided(each, fields)]
        found = (row[1:-1] for row in stored["unknowns"])
        unknown += [each for each in found if not _is_decided(each, fields)]
    unknown += drift.in_call(columns, extra) + drift.in_envelope(envelope)
    began = began_at(columns["start_timestamp"], stamp.observed_at)
    columns |= {
        "call_id": call_id,
        "cost_is_final": _cost_is_final(columns),
        # Sorted, so that the order of arrival does not matter.
        "extra": json_text(dict(sorted(extra.items()))) if extra else None,
        "level": stamp.level,
        "observed_at": stamp.observed_at,
        "updated_at": stamp.updated_at,
        "account": stamp.account,
    }
    return {
        ("calls", None): [tuple(columns[column] for column in _COLUMNS_OF_CALLS)],
        **{each: decoded.rows.get(each, []) for each in slices},
        ("unknowns", None): drift.rows(call_id, unknown, began),
    }


def _is_decided(unknown: drift.Unknown, fields: Collection[str]) -> bool:
    """Whether an unknown is in one of `fields`, or at the call's top level, which is checked
    again."""
    place = unknown[0]
    field = TRACKS[place][0] if place in TRACKS else place
    return place == drift.CALL or (place != drift.ENVELOPE and field in fields)


def _columns(call: Call) -> dict[str, Any]:
    cost, usage, line = call.call_cost, call.llm_token_usage, call.telephony_identifier
    present = call.model_fields_set
    special = {
        "agent_version": call.agent_version if "agent_version" in present else call.version,
        "combined_cost_cents": cost and cost.combined_cost,
        "total_duration_seconds": cost and cost.total_duration_seconds,
        "total_duration_unit_price_cents_per_second": cost and cost.total_duration_unit_price,
        "llm_requests": usage and usage.num_requests,
        "llm_tokens_average": usage and usage.average,
        "twilio_call_sid": line and line.twilio_call_sid,
    }
    return {column: getattr(call, column) for column in _PLAIN_COLUMNS} | special


def _cost_is_final(columns: Mapping[str, Any]) -> bool:
    """The call is over, and so is its transferred leg, whose cost arrives later than call_ended."""
    reason = columns["disconnection_reason"]
    over = is_over(columns["call_status"], columns["end_timestamp"], reason)
    is_transfer = reason in {"call_transfer", "transfer_bridged"}
    has_leg = is_transfer or columns["transfer_destination"] is not None
    leg_ended = columns["transfer_end_timestamp"] is not None
    return columns["combined_cost_cents"] is not None and over and (leg_ended or not has_leg)


def transfer_rows(
    call_id: str, observations: Iterable[Observation], stored: Iterable[Row] = ()
) -> list[Row]:
    """One row per reported step, added to those `stored`. If a step was reported twice, the earlier
    time is used."""
    steps = {row[1]: row for row in stored}
    for o in observations:
        if o.event and o.is_transfer:
            envelope = o.event.envelope
            destination = _destination(value(envelope.get("transfer_destination")))
            option = json_text(value(envelope.get("transfer_option")))
            step = (call_id, o.body_sha256, o.event.event, o.observed_at, destination, option)
            steps[o.body_sha256] = min(steps.get(o.body_sha256, step), step, key=lambda row: row[3])
    return list(steps.values())


def _analysis(call_id: str, analysis: CallAnalysis) -> Rows:
    custom = analysis.custom_analysis_data
    row = (
        call_id,
        analysis.call_summary,
        analysis.user_sentiment,
        analysis.call_successful,
        analysis.in_voicemail,
        json_text(custom),
        json_text(analysis.model_extra or None),
    )
    source = "custom_analysis_data"
    return {("analyses", None): [row], ("attributes", source): _attributes(call_id, source, custom)}


def _product_costs(call_id: str, call: Call) -> list[Row]:
    costs = call.call_cost.product_costs if call.call_cost else None
    return [
        (
            call_id,
            position,
            cost.product,
            cost.cost,
            cost.unit_price if cost.unit_price is not None else cost.unitPrice,
            cost.is_transfer_leg_cost,
        )
        for position, cost in enumerate(costs or ())
        if cost is not None
    ]


def _latencies(call_id: str, call: Call) -> list[Row]:
    groups: Mapping[str, LatencyGroup | None]
    if "latency" in call.model_fields_set:
        groups = call.latency or {}
    else:
        groups = {f.removesuffix("_latency"): getattr(call, f) for f in OLD_LATENCIES}
    return [
        (call_id, component, g.p50, g.p90, g.p95, g.p99, g.min, g.max, g.num, json_text(g.values))
        for component, g in groups.items()
        if g is not None
    ]


def _attributes(call_id: str, source: str, values: Mapping[str, Any] | None) -> list[Row]:
    return [
        (call_id, source, name, text(value), _value_type(value))
        for name, value in (values or {}).items()
    ]


def _value_type(value: Any) -> str:
    """The JSON type of a value; integers are distinguished from other numbers."""
    names: dict[type, str] = {
        str: "string", bool: "boolean", int: "integer", float: "number",
        type(None): "null", dict: "object", list: "array",
    }  # fmt: skip
    return names[type(value)]


def _destination(value: Any) -> str | None:
    if isinstance(value, dict) and isinstance(number := value.get("number"), str):
        extension = value.get("extension")
        # The format of an extension in RFC 3966.
        return f"{number};ext={extension}" if extension else number
    return text(value)
