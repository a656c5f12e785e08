"""Answer inbound webhooks by the rules of callhouse.toml.

In: a stored event. Out: an answer. It is empty without a matching rule and after any error; then
Retell uses the number's own agent.
"""

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from receiver.config import Settings
from receiver.errors import CallhouseError, QueryTooSlow, SettingsError
from receiver.inbound_rules import InboundRequest, InboundRule, Row
from receiver.store import AnyStore, open_store, sql
from schema.events import Event, value

# The time for all queries of one request. Retell waits 10 s, and the caller hears ringing.
BUDGET_SECONDS = 0.2
_CHECK_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer. `rule` is the one that matched; `mismatches` say why others did not."""

    answer: Mapping[str, Any] = field(default_factory=dict)
    rule: str | None = None
    mismatches: tuple[tuple[str, str], ...] = ()
    problem: str | None = None


class InboundRules:
    """The rules of a receiver, with its database."""

    def __init__(self, settings: Settings, store: AnyStore) -> None:
        self._rules, self._store = settings.file.inbound, store
        self._zone = ZoneInfo(settings.timezone)

    def decide(self, request: InboundRequest, *, now_ms: int) -> Decision:
        """The answer to a request within the time limit. It never raises."""
        mismatches: list[tuple[str, str]] = []
        try:
            return self._first_match(request, now_ms, mismatches)
        except Exception as error:
            # Messages of CallhouseError contain no values; those of other errors could.
            problem = str(error) if isinstance(error, CallhouseError) else type(error).__name__
            return Decision(mismatches=tuple(mismatches), problem=problem)

    def check(self) -> None:
        """Run the query of each rule once, without a caller. Raises SettingsError for a rule whose
        query cannot run or lacks a column, and what `first_row` raises."""
        nobody = InboundRequest("call_inbound", "")
        for rule in self._rules:
            if not rule.reads_history:
                continue
            try:
                names, _ = self._read(rule, nobody, _CHECK_SECONDS)
            except (SettingsError, QueryTooSlow) as error:
                message = f"the history of the inbound rule {rule.name}: {error}"
                raise SettingsError(message, hint=error.hint) from None
            if missing := rule.columns - {*names}:
                raise SettingsError(
                    f"the history of the inbound rule {rule.name} has no column {min(missing)}",
                    hint=f"It has: {', '.join(names)}.",
                )

    def _first_match(
        self, request: InboundRequest, now_ms: int, mismatches: list[tuple[str, str]]
    ) -> Decision:
        now = datetime.fromtimestamp(now_ms / 1000, self._zone)
        deadline = time.monotonic() + BUDGET_SECONDS
        histories: dict[str | None, Row | None] = {}
        for rule in self._rules:
            reason = rule.mismatch(request, now)
            row: Row | None = {}
            if reason is None and rule.reads_history:
                if rule.history not in histories:
                    histories[rule.history] = self._history(rule, request, deadline)
                row = histories[rule.history]
                reason = rule.row_mismatch(row)
            if reason is None and row is not None:
                return Decision(rule.answer_with(row), rule.name, tuple(mismatches))
            mismatches.append((rule.name, str(reason)))
        return Decision(mismatches=tuple(mismatches))

    def _history(self, rule: InboundRule, request: InboundRequest, deadline: float) -> Row | None:
        seconds = max(deadline - time.monotonic(), 0.001)
        names, row = self._read(rule, request, seconds)
        return None if row is None else dict(zip(names, row, strict=True))

    def _read(
        self, rule: InboundRule, request: InboundRequest, seconds: float
    ) -> tuple[list[str], Any]:
        query = sql.CALLER_HISTORY if rule.history is None else rule.history
        return self._store.first_row(query, request.parameters(), seconds=seconds)


def check_rules(settings: Settings) -> None:
    """Check the rules of callhouse.toml on the database. Raises what `check` raises."""
    with closing(open_store(settings.database)) as store:
        InboundRules(settings, store).check()


def inbound_request(event: Event, account: str) -> InboundRequest:
    """The request in an event of INBOUND_EVENTS. Values that are not text are ignored."""
    names = ("from_number", "to_number", "agent_id")
    found = {name: value(event.fields.get(name)) for name in names}
    texts = {name: each for name, each in found.items() if isinstance(each, str)}
    return InboundRequest(str(event.event), account, **texts)
