"""/-/alerts: open alerts, recently resolved ones, Retell's alerts, and unsent messages."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from datasette import Response

from receiver import clock
from receiver.browse.pages import (
    message_page,
    require_unlimited_reader,
    reviewer,
    run_in_thread,
)
from receiver.browse.pages.reviewing import refused, require_reviewer
from receiver.browse.writing import audit, writer
from receiver.config import Settings
from receiver.errors import CallhouseError, NotStored, StoreUnavailable
from receiver.jobs.alert_rules import Rule
from receiver.jobs.alerts import describe_retell
from receiver.jobs.status import ago, at
from receiver.store.alerts import (
    Alert,
    Message,
    RetellAlert,
    acknowledge,
    read_alerts,
    read_retell_alerts,
    snooze,
    unsent_messages,
)
from receiver.store.engine import reading

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

_DAY_MS = 86_400_000
_DAYS, _OF_RETELL = 30, 20
SNOOZES = {"1": "1 hour", "24": "1 day", "168": "1 week"}


@dataclass(frozen=True, slots=True)
class _Found:
    alerts: list[Alert]
    of_retell: list[RetellAlert]
    unsent: list[Message]


async def alerts_page(datasette: "Datasette", request: "Request") -> Response:
    """`/-/alerts`; a posted form acknowledges or snoozes an alert. Raises Forbidden."""
    reader = await require_unlimited_reader(datasette, request)
    if request.method == "POST":
        return await _write(datasette, request)
    settings, now_ms = datasette.callhouse_settings, clock.now_ms()
    try:
        found = await run_in_thread(reader, partial(_read, settings, now_ms))
    except CallhouseError as error:
        # A copy without this table, for example.
        return await message_page(datasette, request, 503, "Alerts", f"{error}. {error.hint}")
    rules: dict[str, Rule] = {rule.name: rule for rule in settings.file.alerts.rules}
    shown: dict[str, Any] = {
        "open": [a for a in reversed(found.alerts) if a.is_open and not a.cause],
        "hidden": [a for a in reversed(found.alerts) if a.is_open and a.cause],
        "resolved": [a for a in reversed(found.alerts) if not a.is_open],
        "of_retell": found.of_retell,
        "unsent": found.unsent,
        "rules": rules,
        "has_targets": bool(settings.file.alerts.notify),
        "can_write": reviewer(datasette, request) is not None
        and not writer(datasette).why_read_only,
        "snoozes": SNOOZES,
        "now_ms": now_ms,
        "ago": lambda at_ms: ago(at_ms, now_ms),
        "at": lambda at_ms: at(at_ms, settings.timezone),
        "describe_retell": describe_retell,
    }
    page = await datasette.render_template("alerts.html", shown, request=request)
    return Response.html(page)


def _read(settings: Settings, now_ms: int) -> _Found:
    since = now_ms - _DAYS * _DAY_MS
    with reading(settings.database) as connection:
        return _Found(
            read_alerts(connection, resolved_since=since),
            read_retell_alerts(connection, limit=_OF_RETELL),
            unsent_messages(connection, since=since),
        )


async def _write(datasette: "Datasette", request: "Request") -> Response:
    user, form = require_reviewer(datasette, request), await request.post_vars()
    alert_id, now_ms = form.get("alert", ""), clock.now_ms()
    try:
        if "snooze" in form:
            if form["snooze"] not in SNOOZES:
                raise NotStored("Choose a time from the list.")
            until = now_ms + int(form["snooze"]) * 3_600_000
            work, what = partial(snooze, alert_ids=[alert_id], until=until, now_ms=now_ms), "snooze"
        else:
            work = partial(acknowledge, alert_ids=[alert_id], user=user, now_ms=now_ms)
            what = "acknowledgement"
        if not await writer(datasette).run(work):
            raise NotStored("This alert is not open.")
    except (NotStored, StoreUnavailable) as error:
        return await refused(datasette, request, error)
    audit(user, what, alert_id)
    return Response.redirect(str(datasette.urls.path("/-/alerts")))
