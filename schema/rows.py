"""One call -> {slice: rows}: what the tables hold of it.

A slice is a table, or the part of a table that one field of the call decides: a track, an attribute
source, a kind of media. The slices that an observation decides can be written from it alone when it
is the highest; that is the fast path. Everything else needs the fold of all observations.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schema import drift
from schema.events import Fields, values
from schema.merge import began_at, is_over
from schema.models import Call
from schema.parts import (
    ATTRIBUTE_SOURCES,
    MEDIA_KINDS,
    OLD_LATENCIES,
    TRACKS,
    Rows,
    Slice,
    child_rows,
)
from schema.tables import CALLS
from schema.transcript import TRACK_TABLES, Row, json_text

# The column that tells the slices of a table apart.
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

# Where something unknown may stand -> the fields that decide it. What stands in the call itself and
# beside it is decided by all observations.
_PLACES = {
    **{field: (field,) for field in ("call_analysis", "call_cost", "llm_token_usage")},
    "telephony_identifier": ("telephony_identifier",),
    "latency": ("latency", *OLD_LATENCIES),
    **{field: (field,) for field in drift.TIMES},
    **TRACKS,
}

# Columns of calls whose field has another name; the first field that is carried decides.
_COLUMN_FIELDS = {
    "agent_version": ("agent_version", "version"),
    "combined_cost_cents": ("call_cost",),
    "total_duration_seconds": ("call_cost",),
    "total_duration_unit_price_cents_per_second": ("call_cost",),
    "llm_requests": ("llm_token_usage",),
    "llm_tokens_average": ("llm_token_usage",),
    "twilio_call_sid": ("telephony_identifier",),
}
# Columns that no single field decides.
_DERIVED = ("call_id", "cost_is_final", "extra", "level", "observed_at", "updated_at")
_COLUMNS = {
    column: _COLUMN_FIELDS.get(column, (column,))
    for column in CALLS.names
    if column not in _DERIVED
}
# Choices of fields of which the first that is carried decides.
_CHOICES = {choices for choices in (*SLICES.values(), *_COLUMNS.values()) if len(choices) > 1}
# A second choice -> the field that decides in its place where it is carried.
_FIRST = {second: first for first, *rest in _CHOICES for second in rest}


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a row tells of its observations; times in milliseconds."""

    level: int
    observed_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What the tables hold of a call: its calls row, and what was unknown in it."""

    call: Mapping[str, Any]
    unknown: Sequence[drift.Unknown] = ()


@dataclass(frozen=True, slots=True)
class Read:
    """The fields of a call, read: the call, the rows of its parts, and what is unknown in them."""

    call: Call
    rows: Rows
    unknown: Sequence[drift.Unknown]


def read(call_id: str, fields: Fields) -> Read:
    """Read what `fields` say: nearly all the work of a projection, and none of it in a database."""
    said = values(_deciding(fields))
    call = Call.model_validate(said)
    rows, unknown = child_rows(call_id, call)
    return Read(call, rows, [*unknown, *drift.in_times(said, call)])


def project(
    call_id: str,
    fields: Fields,
    stamp: Stamp,
    envelope: Iterable[str] = (),
    ready: Read | None = None,
) -> Rows:
    """The rows of a whole call, every slice named, empty ones too.

    `envelope` are the keys that its observations carry beside it; `ready` are the fields, if they
    were read before.
    """
    ready = ready or read(call_id, fields)
    call, rows, unknown = ready.call, ready.rows, [*ready.unknown]
    columns, extra = _columns(call), call.model_extra
    row = _call_row(call_id, columns, extra, stamp)
    unknown += drift.in_call(columns, extra) + drift.in_envelope(envelope)
    return {
        ("calls", None): [row],
        **{part: rows.get(part, []) for part in SLICES},
        ("unknowns", None): drift.rows(call_id, unknown, _seen_at(columns, stamp)),
    }


def project_newest(
    call_id: str,
    fields: Fields,
    stamp: Stamp,
    stored: Stored,
    before: Fields,
    envelope: Iterable[str] = (),
    ready: Read | None = None,
) -> Rows | None:
    """The rows that change when `fields` are what the highest observation says of a call of which
    `stored` is known; None if only the fold of all observations can tell.

    `before` are the fields of the observation that was the highest until now: the rows of what is
    spelled the same are there already. `envelope` are the keys beside the call; `ready` is all that
    the fields say, if they were read before.
    """
    if not all(_is_decided(choices, fields) for choices in _CHOICES):
        return None
    fields = {k: said for k, said in _deciding(fields).items() if before.get(k) != said}
    ready = ready or read(call_id, fields)
    call, rows, unknown = ready.call, ready.rows, [*ready.unknown]
    said = _columns(call)
    columns = {c: said[c] if f[0] in fields else stored.call[c] for c, f in _COLUMNS.items()}
    # Not the parser of bodies: what it reads to its last level stands here one level deeper.
    extra = json.loads(stored.call["extra"] or "{}") | (call.model_extra or {})
    row = _call_row(call_id, columns, extra, stamp)
    unknown += drift.in_call(columns, extra) + drift.in_envelope(envelope)
    unknown += [each for each in stored.unknown if not _is_said_anew(each, fields)]
    return {
        ("calls", None): [row],
        **{part: rows.get(part, []) for part, f in SLICES.items() if f[0] in fields},
        ("unknowns", None): drift.rows(call_id, unknown, _seen_at(columns, stamp)),
    }


def _is_said_anew(unknown: drift.Unknown, fields: Fields) -> bool:
    """Whether what was once unknown stood where `fields` now say something else."""
    place = unknown[0]
    return place == drift.CALL or (place in _PLACES and _PLACES[place][0] in fields)


def touched(stored: Mapping[str, Any], stamp: Stamp) -> Row:
    """A stored calls row of which nothing has changed but the time."""
    return tuple((dict(stored) | {"updated_at": stamp.updated_at}).values())


def _deciding(fields: Fields) -> Fields:
    """The fields without second choices whose first choice is carried: they decide nothing."""
    return {name: value for name, value in fields.items() if _FIRST.get(name) not in fields}


def _is_decided(candidates: Sequence[str], fields: Fields) -> bool:
    """Whether `fields` decide alone: they carry the first candidate, or none."""
    return candidates[0] in fields or not any(f in fields for f in candidates)


def _columns(call: Call) -> dict[str, Any]:
    cost, usage, line = call.call_cost, call.llm_token_usage, call.telephony_identifier
    said = call.model_fields_set
    special = {
        "agent_version": call.agent_version if "agent_version" in said else call.version,
        "combined_cost_cents": cost and cost.combined_cost,
        "total_duration_seconds": cost and cost.total_duration_seconds,
        "total_duration_unit_price_cents_per_second": cost and cost.total_duration_unit_price,
        "llm_requests": usage and usage.num_requests,
        "llm_tokens_average": usage and usage.average,
        "twilio_call_sid": line and line.twilio_call_sid,
    }
    return {c: special[c] if c in special else getattr(call, c) for c in _COLUMNS}


def _call_row(
    call_id: str, columns: Mapping[str, Any], extra: Mapping[str, Any] | None, stamp: Stamp
) -> Row:
    values = dict(columns) | {
        "call_id": call_id,
        "cost_is_final": _cost_is_final(columns),
        # In the order of their names, so that the order of arrival leaves no trace.
        "extra": json_text(dict(sorted(extra.items()))) if extra else None,
        "level": stamp.level,
        "observed_at": stamp.observed_at,
        "updated_at": stamp.updated_at,
    }
    return tuple(values[column] for column in CALLS.names)


def _seen_at(columns: Mapping[str, Any], stamp: Stamp) -> int | None:
    """When the call was: as call_time in views.sql."""
    return began_at(columns["start_timestamp"], stamp.observed_at)


def _cost_is_final(columns: Mapping[str, Any]) -> bool:
    """Terminal, and any transferred leg ended: its cost comes later than call_ended."""
    over = is_over(
        columns["call_status"], columns["end_timestamp"], columns["disconnection_reason"]
    )
    transferred = columns["transfer_destination"] is not None or columns[
        "disconnection_reason"
    ] in {"call_transfer", "transfer_bridged"}
    leg_ended = columns["transfer_end_timestamp"] is not None
    return columns["combined_cost_cents"] is not None and over and (leg_ended or not transferred)
