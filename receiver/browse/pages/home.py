"""The home page: a period compared with the one before, its agents, reasons and worst calls.

A query over its time limit leaves its figures out, so that the page stays fast.
"""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from datasette import Response

from receiver import clock
from receiver.browse.formatting import local_day
from receiver.browse.pages import Reader, fetch_rows, require_reader, timezone
from receiver.browse.pages.call_filters import calls_url
from receiver.browse.pages.figures import Figure, Links, totals
from receiver.browse.pages.home_figures import (
    AgentRow,
    Reason,
    Step,
    agent_rows,
    chat_figures,
    failures,
    figures,
    reasons_to_listen,
    steps_of,
)
from receiver.browse.pages.periods import DEFAULT, PERIODS, TITLES, Period, period_of
from receiver.browse.pages.saved_views import ViewOnHome, fetch_view_on_home
from receiver.browse.pages.sums import (
    FIRST_AND_LAST,
    FIRST_AND_LAST_OF_CHATS,
    Rows,
    fetch_chats,
    fetch_groups,
    fetch_in_time,
    fetch_waits,
)
from schema.sql.macros import plain

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# Rows of the lists; the worst calls are those of this many newest ones.
_WORST, _NEWEST, _READ = 5, 5, 3_000

ACCOUNTS = "SELECT DISTINCT account FROM account_keys WHERE account IS NOT NULL ORDER BY account"


def _steps(view: str, at: str) -> str:
    """Calls of each day or hour: all, connected, and those that reached their goal."""
    return plain(f"""
SELECT
    h.{at} AS at, sum(h.calls) AS calls, sum(h.calls * h.connected) AS connected,
    sum(h.successful_count * h.connected) AS successful
FROM (
    SELECT h.*, are_connected(h, r) AS connected
    FROM {view} h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
) h
WHERE h.{at} >= :since AND h.{at} < :until AND (:account = '' OR h.account = :account)
GROUP BY h.{at}
""")


_SEEN = """
SELECT
    EXISTS (SELECT 1 FROM observations WHERE source = 'webhook') AS event,
    EXISTS (SELECT 1 FROM syncs) AS sync
"""
_ATTENTION = "SELECT what, count(*) AS entries FROM needs_attention GROUP BY what ORDER BY what"
_NEWEST_CALLS = f"""
SELECT * FROM call_log WHERE (:account = '' OR account = :account)
ORDER BY started_at_ms DESC LIMIT {_NEWEST}
"""
# LIMIT bounds the time in a long period of many calls.
_WORST_CALLS = f"""
SELECT l.*, r.category FROM (
    SELECT * FROM call_log
    WHERE started_at_ms >= :since AND started_at_ms < :until
        AND (:account = '' OR account = :account)
    ORDER BY started_at_ms DESC LIMIT {_READ}
) l LEFT JOIN disconnection_reasons r ON r.reason = l.outcome
WHERE l.success = 0 OR lower(trim(l.sentiment)) = 'negative' OR r.category = 'error'
ORDER BY
    2 * coalesce(l.success = 0, 0) + 2 * coalesce(lower(trim(l.sentiment)) = 'negative', 0)
        + coalesce(r.category = 'error', 0) DESC,
    l.duration_seconds DESC, l.call_id
LIMIT {_WORST}
"""
_AGENT_NAMES = plain("SELECT value AS id, name_of_agent(value) AS name FROM json_each(:ids)")
# Reason that needs attention -> its meaning, and what to do.
ADVICE = {
    "quarantined": "Signed deliveries that callhouse could not read. They are stored; "
    "open them, and report what Retell changed.",
    "stuck in progress": "No end was reported for hours. Fetch it from Retell: callhouse sync.",
    "never analysed": "Ended without an analysis. Fetch it: callhouse sync. If Retell has none, "
    "check the agent's post-call analysis.",
}


@dataclass(slots=True)
class Home:
    """What the page shows; rows as in the views."""

    timezone: str
    period: Period | None = None
    is_compared: bool = True
    switch: list[tuple[str, str, bool]] = field(default_factory=list)
    accounts: list[tuple[str, str, bool]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    agents: list[AgentRow] = field(default_factory=list)
    more_agents: int = 0
    failed: int | None = 0
    reasons: list[Reason] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    worst: list[tuple[dict[str, Any], list[str]]] = field(default_factory=list)
    attention: list[tuple[str, int, str]] | None = field(default_factory=list)
    newest: list[dict[str, Any]] = field(default_factory=list)
    # How many and what they cost, of a period with some.
    chats: tuple[Figure, Figure] | None = None
    has_chats_only: bool = False
    view: ViewOnHome | None = None
    calls_url: str = ""
    unhappy_url: str = ""
    checklist: list[tuple[bool, str, str]] = field(default_factory=list)


async def home_page(datasette: "Datasette", request: "Request") -> Response:
    """`/`: the page. Raises Forbidden."""
    reader = await require_reader(datasette, request)
    context = {"home": await home(reader, request)}
    return Response.html(await datasette.render_template("index.html", context, request=request))


async def home(reader: Reader, request: "Request", *, now_ms: int | None = None) -> Home:
    """The content of the page."""
    datasette = reader.datasette
    zone = timezone(datasette)
    shown = Home(zone.key)
    [ends] = await fetch_rows(reader, FIRST_AND_LAST)
    if ends["last"] is None:
        [of_chats] = await fetch_rows(reader, FIRST_AND_LAST_OF_CHATS)
        shown.has_chats_only = of_chats["last"] is not None
        shown.checklist = await _fetch_checklist(reader)
        return shown
    name = request.args.get("period") or DEFAULT
    name = name if name in PERIODS else DEFAULT
    now_ms = clock.now_ms() if now_ms is None else now_ms
    period = shown.period = period_of(name, ends["last"], now_ms, zone)
    known = [row["account"] for row in await fetch_rows(reader, ACCOUNTS)]
    account = request.args.get("account") or ""
    account = account if account in known else ""
    shown.switch, shown.accounts = _switches(name, account, known)
    of_account = {"account": account}
    links = Links(datasette, period, of_account)
    shown.calls_url = links.calls()
    shown.unhappy_url = calls_url(
        datasette, period="yesterday", sentiment="negative", sort="success", account=account
    )
    (rows, chats), waits, steps, worst, attention, shown.newest = await asyncio.gather(
        asyncio.gather(
            fetch_groups(reader, period, of_account), fetch_chats(reader, period, of_account)
        ),
        fetch_waits(reader, period, of_account),
        _fetch_steps(reader, period, account),
        fetch_in_time(reader, _WORST_CALLS, period.params | of_account),
        fetch_in_time(reader, _ATTENTION, {}),
        fetch_rows(reader, _NEWEST_CALLS, of_account),
    )
    shown.view = await fetch_view_on_home(reader, request)
    # A time before that is stored in part says nothing about a change.
    shown.is_compared = period.before_first >= local_day(ends["first"], zone)
    if not shown.is_compared:
        rows = rows and [row for row in rows if row["half"]]
        chats = chats and [row for row in chats if row["half"]]
        waits = {half: row for half, row in waits.items() if half}
    halves = totals(rows or [])
    shown.figures = figures(halves, waits, links, is_late=rows is None)
    links_of_chats = Links(datasette, period, of_account | {"kind": "chat"})
    shown.chats = chat_figures(totals(chats or []), links_of_chats)
    names = await _fetch_agent_names(reader, rows or [])
    shown.agents, shown.more_agents = agent_rows(rows or [], names, links)
    shown.failed, shown.reasons = failures(rows, links) if rows is not None else (None, [])
    shown.steps = steps_of(steps or [], period, zone, links)
    shown.worst = [(call, reasons_to_listen(call)) for call in worst or []]
    shown.attention = attention and [
        (row["what"], row["entries"], ADVICE.get(row["what"], "")) for row in attention
    ]
    return shown


async def _fetch_agent_names(reader: Reader, rows: Rows) -> dict[str, str]:
    ids = json.dumps(sorted({row["agent_id"] for row in rows if row["agent_id"]}))
    names = await fetch_in_time(reader, _AGENT_NAMES, {"ids": ids})
    return {row["id"]: row["name"] for row in names or () if row["name"]}


async def _fetch_checklist(reader: Reader) -> list[tuple[bool, str, str]]:
    """The steps to the first call: whether each is done, what it is, and how. Empty for a limited
    reader, who sees nothing of the installation."""
    settings = getattr(reader.datasette, "callhouse_settings", None)
    if settings is None or reader.is_limited:
        return []
    [seen] = await fetch_rows(reader, _SEEN)
    has_key = any(account.api_key for account in settings.accounts)
    url = "callhouse webhook test https://YOUR-HOST/webhook"
    return [
        (has_key, "A Retell API key", "RETELL_API_KEY, the key with the webhook badge"),
        (settings.counters_path.exists(), "The receiver", f"callhouse serve, on {settings.bind}"),
        (bool(seen["event"]), "The way to the receiver", url),
        (
            bool(seen["event"]),
            "The URL at Retell",
            "In Retell's dashboard, Webhooks: https://YOUR-HOST/webhook",
        ),
        (bool(seen["event"]), "The first event", "Call one of your agents"),
        (bool(seen["sync"]), "Earlier calls", "callhouse sync"),
    ]


def _switches(
    name: str, account: str, accounts: list[str]
) -> tuple[list[tuple[str, str, bool]], list[tuple[str, str, bool]]]:
    """Links to the other periods and accounts: name, query string, whether it is shown now."""

    def query(period: str, account: str) -> str:
        return "?" + urlencode({"period": period} | ({"account": account} if account else {}))

    periods = [(TITLES[p], query(p, account), p == name) for p in PERIODS]
    if len(accounts) < 2:
        return periods, []
    named = [("All accounts", ""), *((a, a) for a in accounts)]
    return periods, [(title, query(name, a), a == account) for title, a in named]


async def _fetch_steps(reader: Reader, period: Period, account: str) -> Rows | None:
    if period.is_day:
        sql = _steps("hourly_calls", "hour")
        params: dict[str, Any] = {"since": period.since, "until": period.until}
    else:
        sql = _steps("daily_calls", "day")
        until = period.last + timedelta(days=1)
        params = {"since": period.first.isoformat(), "until": until.isoformat()}
    return await fetch_in_time(reader, sql, params | {"account": account})
