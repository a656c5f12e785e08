"""The parts of a call -> rows of their tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from schema import drift
from schema.events import value
from schema.merge import Observation, is_transfer
from schema.models import Call, CallAnalysis, LatencyGroup
from schema.transcript import Row, json_text, metrics_row, text, track_rows

# A table, and for a table shared by several fields which of its rows: (column, value).
Slice = tuple[str, str | None]
Rows = dict[Slice, list[Row]]

# track -> the fields it comes from; the first that is carried decides, alone.
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
# The three groups that stood alone until 2024-11.
OLD_LATENCIES = ("e2e_latency", "llm_latency", "llm_websocket_network_rtt_latency")


def child_rows(call_id: str, call: Call) -> tuple[Rows, list[drift.Unknown]]:
    """The rows of every table but calls, transfers and unknowns, and what is unknown in them.

    A slice without rows may be missing.
    """
    unknown = drift.in_parts(call)
    rows: Rows = {
        ("product_costs", None): _product_costs(call_id, call),
        ("latencies", None): _latencies(call_id, call),
    }
    if call.transcript is not None:
        rows["transcripts", None] = [(call_id, call.transcript)]
    for track, fields in TRACKS.items():
        source = next((f for f in fields if f in call.model_fields_set), None)
        if source:
            entries = getattr(call, source)
            unknown += drift.in_entries(track, entries)
            for table, part in track_rows(call_id, track, entries).items():
                rows[table, track] = part
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
    return rows, unknown


def transfer_rows(call_id: str, observations: Iterable[Observation]) -> list[Row]:
    """A row per reported step, whatever else is known; never merged."""
    steps: dict[str, Row] = {}
    for o in sorted(observations, key=lambda o: o.observed_at, reverse=True):
        if o.event and is_transfer(o.event.event):
            said = o.event.envelope
            destination = _destination(value(said.get("transfer_destination")))
            option = json_text(value(said.get("transfer_option")))
            steps[o.body_sha256] = (
                call_id, o.body_sha256, o.event.event, o.observed_at, destination, option,
            )  # fmt: skip
    return list(steps.values())


def with_transfer(stored: Iterable[Row], step: Row) -> list[Row]:
    """The rows of reported steps with one more; of a step reported twice the earlier."""
    rows = {row[1]: row for row in stored}
    before = rows.get(step[1], step)
    rows[step[1]] = min(before, step, key=lambda row: row[3])
    return list(rows.values())


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
    """The JSON type of a value, integers apart from other numbers."""
    names: dict[type, str] = {
        str: "string", bool: "boolean", int: "integer", float: "number",
        type(None): "null", dict: "object", list: "array",
    }  # fmt: skip
    return names[type(value)]


def _destination(value: Any) -> str | None:
    if isinstance(value, dict) and isinstance(number := value.get("number"), str):
        extension = value.get("extension")
        # As RFC 3966 writes an extension behind a telephone number.
        return f"{number};ext={extension}" if extension else number
    return text(value)
