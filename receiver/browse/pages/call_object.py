"""The rows of one call -> the call object in Retell's format, without values that have no column.

Readers get this instead of the raw bodies, which contain access tokens of web calls. Pure.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from schema.rows import TRACKS

Row = Mapping[str, Any]
Tables = Mapping[str, list[dict[str, Any]]]

# Columns of calls that Retell does not have, or has in a nested object.
_NOT_FIELDS = frozenset({
    "extra", "level", "observed_at", "updated_at", "cost_is_final", "combined_cost_cents",
    "total_duration_seconds", "total_duration_unit_price_cents_per_second", "llm_requests",
    "llm_tokens_average", "twilio_call_sid",
})  # fmt: skip
_JSON_TYPES = frozenset({"boolean", "integer", "number", "object", "array", "null"})


def call_object(tables: Tables, *, transcripts: bool = True) -> dict[str, Any]:
    """The call with Retell's names, nesting and units, without unknown values."""
    call = tables["calls"][0]
    fields = {name: value for name, value in call.items() if name not in _NOT_FIELDS}
    if call["opt_in_signed_url"] is not None:
        fields["opt_in_signed_url"] = bool(call["opt_in_signed_url"])
    if call["twilio_call_sid"]:
        fields["telephony_identifier"] = {"twilio_call_sid": call["twilio_call_sid"]}
    fields |= _attributes(tables["attributes"])
    fields |= {f"{row['kind']}_url": row["url"] for row in tables["media"]}
    fields["latency"] = {row["component"]: _latency(row) for row in tables["latencies"]} or None
    fields["call_cost"] = _cost(call, tables["product_costs"])
    fields["llm_token_usage"] = _known(
        {"average": call["llm_tokens_average"], "num_requests": call["llm_requests"]}
    )
    if tables["analyses"]:
        fields["call_analysis"] = _analysis(tables["analyses"][0])
    if transcripts and tables["transcripts"]:
        fields["transcript"] = tables["transcripts"][0]["transcript"]
    for track, names in TRACKS.items() if transcripts else ():
        fields[names[0]] = _entries(tables, track) or None
    return _known(fields | json.loads(call["extra"] or "{}")) or {}


def _known(fields: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields that have a value; None if none has."""
    return {name: value for name, value in fields.items() if value is not None} or None


def _attributes(rows: Iterable[Row]) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["source"] != "custom_analysis_data":
            is_json = row["value_type"] in _JSON_TYPES and row["value"] is not None
            value = json.loads(row["value"]) if is_json else row["value"]
            found.setdefault(row["source"], {})[row["name"]] = value
    return found


def _latency(row: Row) -> dict[str, Any] | None:
    names = ("p50", "p90", "p95", "p99", "min", "max")
    values = json.loads(row["samples_ms"]) if row["samples_ms"] else None
    return _known({n: row[f"{n}_ms"] for n in names} | {"num": row["num"], "values": values})


def _cost(call: Row, products: Iterable[Row]) -> dict[str, Any] | None:
    parts = [
        _known(
            {
                "product": row["product"],
                "cost": row["cost_cents"],
                "unit_price": row["unit_price_cents_per_second"],
                "is_transfer_leg_cost": _flag(row["is_transfer_leg_cost"]),
            }
        )
        for row in products
    ]
    return _known(
        {
            "combined_cost": call["combined_cost_cents"],
            "total_duration_seconds": call["total_duration_seconds"],
            "total_duration_unit_price": call["total_duration_unit_price_cents_per_second"],
            "product_costs": parts or None,
        }
    )


def _analysis(row: Row) -> dict[str, Any] | None:
    custom = json.loads(row["custom_analysis_data"] or "null")
    return _known(
        {
            "call_summary": row["call_summary"],
            "user_sentiment": row["user_sentiment"],
            "call_successful": _flag(row["call_successful"]),
            "in_voicemail": _flag(row["in_voicemail"]),
            "custom_analysis_data": custom,
            **json.loads(row["extra"] or "{}"),
        }
    )


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _entries(tables: Tables, track: str) -> list[dict[str, Any]]:
    """One transcript list, its entries of all kinds in their original order."""
    placed: list[tuple[int, dict[str, Any]]] = []
    of_track = {name: [r for r in tables[name] if r["track"] == track] for name in _KINDS}
    words = {row["position"]: row["words"] for row in of_track["utterance_words"]}
    for row in of_track["utterances"]:
        placed.append((row["position"], _utterance(row, words.get(row["position"]))))
    for row in of_track["tool_calls"]:
        placed += _tool_entries(row)
    for row in of_track["node_transitions"]:
        names = ("former_node_id", "former_node_name", "new_node_id", "new_node_name")
        entry = {n: row[n] for n in (*names, "transition_type")} | {"time_sec": row["time_seconds"]}
        placed.append((row["position"], {"role": "node_transition", **entry}))
    for row in of_track["markers"]:
        key = "digit" if row["role"] == "dtmf" else "content"
        entry = {"role": row["role"], key: row["body"], "time_sec": row["time_seconds"]}
        placed.append((row["position"], entry))
    return [_known(entry) or {} for _, entry in sorted(placed, key=lambda item: item[0])]


_KINDS = ("utterances", "utterance_words", "tool_calls", "node_transitions", "markers")


def _utterance(row: Row, words: str | None) -> dict[str, Any]:
    timed = [
        _known(dict(zip(("word", "start", "end"), w, strict=True)))
        for w in json.loads(words or "[]")
    ]
    metadata = json.loads(row["metadata"] or "null")
    return {
        "role": row["role"],
        "content": row["content"],
        "words": timed or None,
        "metadata": metadata,
    }


def _tool_entries(row: Row) -> list[tuple[int, dict[str, Any]]]:
    both = {"tool_call_id": row["tool_call_id"]}
    entries: list[tuple[int, dict[str, Any]]] = []
    if row["result_position"] != row["position"]:
        invocation = {"role": "tool_call_invocation", **both, "name": row["name"]}
        invocation |= {"type": row["type"], "arguments": row["arguments"]}
        entries.append((row["position"], invocation | {"time_sec": row["invoked_at_seconds"]}))
    if row["result_position"] is not None:
        result = {"role": "tool_call_result", **both, "content": row["result"]}
        result |= {"successful": _flag(row["successful"]), "time_sec": row["result_at_seconds"]}
        entries.append((row["result_position"], result))
    return entries
