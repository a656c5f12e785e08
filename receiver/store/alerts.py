"""The tables alerts, retell_alerts and notifications (messages about alerts)."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import zstandard

from receiver.store import sql
from receiver.store.copying import select_all
from receiver.store.protocols import Connection
from schema import models
from schema.events import parse, values
from schema.tables import ALERTS, NOTIFICATIONS, RETELL_ALERTS

if TYPE_CHECKING:
    from receiver.store.engine import AnyStore

# Open, or resolved since this time.
_RECENT = f"{select_all(ALERTS)} WHERE resolved_at IS NULL OR resolved_at >= ? ORDER BY opened_at"
_PUT = sql.upsert(ALERTS)
_ACKNOWLEDGE = (
    "UPDATE alerts SET acknowledged_by = ?, acknowledged_at = ?, changed_at = ? "
    "WHERE alert_id = ? AND resolved_at IS NULL RETURNING alert_id"
)
_SNOOZE = (
    "UPDATE alerts SET snoozed_until = ?, changed_at = ? "
    "WHERE alert_id = ? AND resolved_at IS NULL RETURNING alert_id"
)
# The columns that a run of the rules writes. Acknowledging and snoozing write the others.
_FOUND = (
    "UPDATE alerts SET severity = ?, text = ?, figures = ?, link = ?, cause = ?, seen_at = ?, "
    "changed_at = ?, resolved_at = ?, notified_at = ? WHERE alert_id = ?"
)
_NEW_OF_RETELL = (
    "SELECT o.entity_id, o.first_received_at, o.body FROM observations o "
    # Alerts have no id, so their entities begin with `sha:`: few rows, found by the key.
    "WHERE o.entity_id >= 'sha:' AND o.entity_id < 'sha;' "
    "AND o.entity_type = 'alert' AND o.body IS NOT NULL "
    "AND NOT EXISTS (SELECT 1 FROM retell_alerts r WHERE r.entity_id = o.entity_id) "
    "AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.entity_id = o.entity_id) LIMIT 500"
)
_PUT_OF_RETELL = sql.upsert(RETELL_ALERTS)
_DROP_ERASED = (
    "DELETE FROM retell_alerts WHERE entity_id = ? AND EXISTS "
    "(SELECT 1 FROM erasures e WHERE e.entity_id = retell_alerts.entity_id)"
)
_OF_RETELL = f"{select_all(RETELL_ALERTS)} ORDER BY triggered_timestamp DESC LIMIT ?"
_PUT_MESSAGE = (
    f"INSERT INTO notifications ({', '.join(NOTIFICATIONS.names)}) "
    f"VALUES ({', '.join('?' * len(NOTIFICATIONS.names))}) "
    "ON CONFLICT (message_id, target) DO NOTHING"
)
_DUE = (
    f"{select_all(NOTIFICATIONS)} WHERE state = 'waiting' "
    "AND (next_attempt_at <= ? OR next_attempt_at > ?) "
    "ORDER BY created_at, message_id, target LIMIT 50"
)
_CLAIM = (
    "UPDATE notifications SET next_attempt_at = ? WHERE message_id = ? AND target = ? "
    "AND state = 'waiting' AND next_attempt_at = ? RETURNING message_id"
)
_WRITE_ATTEMPT = (
    "UPDATE notifications SET state = ?, attempts = ?, next_attempt_at = ?, sent_at = ?, "
    "problem = ? WHERE message_id = ? AND target = ?"
)
_UNSENT = (
    f"{select_all(NOTIFICATIONS)} WHERE state <> 'sent' AND created_at >= ? "
    "ORDER BY created_at DESC LIMIT 20"
)
_HAS_MESSAGE = "SELECT 1 FROM notifications WHERE message_id = ? LIMIT 1"
_FORGET = "DELETE FROM notifications WHERE created_at < ? AND state <> 'waiting'"


@dataclass(frozen=True, slots=True)
class Alert:
    """A row of alerts; times in milliseconds. It is open while `resolved_at` is None."""

    alert_id: str
    rule: str
    key: str
    severity: str
    text: str
    figures: str
    link: str | None
    cause: str | None
    opened_at: int
    seen_at: int
    changed_at: int
    resolved_at: int | None = None
    notified_at: int | None = None
    acknowledged_by: str | None = None
    acknowledged_at: int | None = None
    snoozed_until: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not resolved."""
        return self.resolved_at is None

    def state(self, now_ms: int) -> str:
        """The state for a person."""
        if not self.is_open:
            return "resolved"
        if self.is_snoozed(now_ms):
            return "snoozed"
        return "acknowledged" if self.acknowledged_by else "open"

    def is_snoozed(self, now_ms: int) -> bool:
        """Whether its messages are snoozed."""
        return self.snoozed_until is not None and self.snoozed_until > now_ms


@dataclass(frozen=True, slots=True)
class RetellAlert:
    """A row of retell_alerts."""

    entity_id: str
    incident_id: str | None
    rule_id: str | None
    name: str | None
    metric_type: str | None
    threshold_type: str | None
    threshold_value: float | None
    comparator: str | None
    frequency: str | None
    period: str | None
    current_value: float | None
    triggered_timestamp: int | None
    received_at: int | None
    changed_at: int | None


@dataclass(frozen=True, slots=True)
class Message:
    """A row of notifications; `target` is the hash of the URL."""

    message_id: str
    target: str
    created_at: int
    title: str
    body: str
    html: str | None = field(default=None, repr=False)
    state: str = "waiting"
    attempts: int = 0
    next_attempt_at: int | None = None
    sent_at: int | None = None
    problem: str | None = None


def read_alerts(connection: Connection, *, resolved_since: int | None = None) -> list[Alert]:
    """Open alerts, and those resolved since a time if one is given, the oldest first."""
    return [Alert(*row) for row in connection.execute(_RECENT, (resolved_since,)).fetchall()]


def write_run(
    store: "AnyStore",
    opened: Sequence[Alert],
    changed: Sequence[Alert],
    messages: Sequence[Message],
    of_retell: Sequence[RetellAlert] = (),
) -> None:
    """Store the result of a run of the rules and new alerts of Retell's, with the messages about
    both, in one transaction. Raises StoreUnavailable."""

    def unit(connection: Connection) -> None:
        store.lock(connection, {alert.entity_id for alert in of_retell})
        if of_retell:
            connection.executemany(_PUT_OF_RETELL, [astuple(alert) for alert in of_retell])
            # Erased since they were read.
            connection.executemany(_DROP_ERASED, [(alert.entity_id,) for alert in of_retell])
        if opened:
            connection.executemany(_PUT, [astuple(alert) for alert in opened])
        for a in changed:
            connection.execute(
                _FOUND,
                (
                    a.severity, a.text, a.figures, a.link, a.cause, a.seen_at, a.changed_at,
                    a.resolved_at, a.notified_at, a.alert_id,
                ),
            )  # fmt: skip
        _put_messages(connection, messages)

    store.run(unit)


def put_messages(store: "AnyStore", messages: Sequence[Message]) -> None:
    """Write messages that do not exist yet. Raises StoreUnavailable."""
    store.run(lambda connection: _put_messages(connection, messages))


def _put_messages(connection: Connection, messages: Sequence[Message]) -> None:
    if messages:
        connection.executemany(_PUT_MESSAGE, [astuple(message) for message in messages])


def has_message(connection: Connection, message_id: str) -> bool:
    """Whether a message was written, to any target."""
    return connection.execute(_HAS_MESSAGE, (message_id,)).fetchone() is not None


def due_messages(connection: Connection, *, now_ms: int, latest_ms: int) -> list[Message]:
    """Messages whose next attempt is due, the oldest first. An attempt that is planned after
    `latest_ms` was planned while the clock was ahead, and is due."""
    return [Message(*row) for row in connection.execute(_DUE, (now_ms, latest_ms)).fetchall()]


def claim_message(store: "AnyStore", message: Message, *, until_ms: int) -> bool:
    """Postpone the next attempt before a message is sent; False if another process has done that
    since the message was read. Raises StoreUnavailable."""
    values = (until_ms, message.message_id, message.target, message.next_attempt_at)
    return store.run(lambda connection: bool(connection.execute(_CLAIM, values).fetchall()))


def unsent_messages(connection: Connection, *, since: int) -> list[Message]:
    """The newest 20 waiting and dead messages, the newest first."""
    return [Message(*row) for row in connection.execute(_UNSENT, (since,)).fetchall()]


def write_attempt(store: "AnyStore", message: Message) -> None:
    """Store the result of an attempt. Raises StoreUnavailable."""
    values = (
        message.state, message.attempts, message.next_attempt_at, message.sent_at, message.problem,
        message.message_id, message.target,
    )  # fmt: skip
    store.run(lambda connection: connection.execute(_WRITE_ATTEMPT, values) and None)


def forget_messages(store: "AnyStore", *, before: int) -> None:
    """Delete older messages that are not waiting. Raises StoreUnavailable."""
    store.run(lambda connection: connection.execute(_FORGET, (before,)) and None)


def acknowledge(store: "AnyStore", alert_ids: Collection[str], *, user: str, now_ms: int) -> int:
    """Acknowledge open alerts; return their number. Raises StoreUnavailable."""
    rows = [(user, now_ms, now_ms, alert_id) for alert_id in alert_ids]
    return store.run(partial(_update_all, _ACKNOWLEDGE, rows))


def snooze(store: "AnyStore", alert_ids: Collection[str], *, until: int, now_ms: int) -> int:
    """Snooze open alerts until a time; return their number.

    Raises StoreUnavailable.
    """
    rows = [(until, now_ms, alert_id) for alert_id in alert_ids]
    return store.run(partial(_update_all, _SNOOZE, rows))


def _update_all(statement: str, rows: Iterable[Sequence[Any]], connection: Connection) -> int:
    return sum(len(connection.execute(statement, row).fetchall()) for row in rows)


def new_retell_alerts(connection: Connection, *, now_ms: int) -> list[RetellAlert]:
    """The rows of retell_alerts for events that have none yet."""
    found = connection.execute(_NEW_OF_RETELL).fetchall()
    return [_retell_alert(*row, now_ms=now_ms) for row in found]


def read_retell_alerts(connection: Connection, *, limit: int) -> list[RetellAlert]:
    """The newest alerts of Retell's rules."""
    return [RetellAlert(*row) for row in connection.execute(_OF_RETELL, (limit,)).fetchall()]


def _retell_alert(entity_id: str, received_at: int, body: bytes, *, now_ms: int) -> RetellAlert:
    of = models.Alert.model_validate(values(parse(zstandard.decompress(body)).fields))
    return RetellAlert(
        entity_id=entity_id,
        incident_id=of.alert_incident_id,
        rule_id=of.alert_rule_id,
        name=of.name,
        metric_type=of.metric_type,
        threshold_type=of.threshold_type,
        threshold_value=of.threshold_value,
        comparator=of.comparator,
        frequency=of.frequency,
        period=of.window,
        current_value=of.current_value,
        triggered_timestamp=of.triggered_timestamp,
        received_at=received_at,
        changed_at=now_ms,
    )
