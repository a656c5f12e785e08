"""Calls merged from their bodies without the code under test, to check figures of pages."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime

from schema.disconnection_reasons import REASONS
from tests.support import naive_model


@dataclass(frozen=True)
class Call:
    """A call merged from its bodies by the naive model."""

    fields: dict
    at: datetime

    @property
    def day(self) -> str:
        return self.at.date().isoformat()

    @property
    def cents(self) -> float | None:
        return (self.fields.get("call_cost") or {}).get("combined_cost")

    @property
    def analysis(self) -> dict:
        return self.fields.get("call_analysis") or {}

    @property
    def outcome(self) -> str:
        reason = self.fields.get("disconnection_reason")
        return REASONS.get(reason, ("unknown",))[0] if reason else "no end yet"

    @property
    def is_connected(self) -> bool:
        return "start_timestamp" in self.fields and self.outcome != "not_connected"

    @property
    def success(self) -> bool | None:
        """Whether a connected call reached its goal, if that was judged."""
        return self.analysis.get("call_successful") if self.is_connected else None

    @property
    def sentiment(self) -> str | None:
        """Of a connected call, in lower case."""
        label = self.analysis.get("user_sentiment") if self.is_connected else None
        return label.strip().lower() if label is not None else None


def calls_of(sent, zone) -> dict[str, Call]:
    """call_id -> the call that all deliveries together report."""
    seen = naive_model.of_each(filter(None, map(_delivery, sent)))
    found = {}
    for (call_id, kind), observations in seen.items():
        if kind == "call":
            fields = naive_model.merged(observations)
            top = max(observations, key=lambda o: o.rank)
            ms = fields.get("start_timestamp") or top.at
            found[call_id] = Call(fields, datetime.fromtimestamp(ms / 1000, UTC).astimezone(zone))
    return found


def _delivery(one) -> naive_model.Delivery | None:
    body = json.loads(one.body)
    fields = body.get("call")
    # A tool's request contains the call as well.
    if "event" not in body or not fields:
        return None
    return naive_model.Delivery(
        body["event"], fields, at=one.at_ms, received=one.at_ms, id=fields["call_id"]
    )
