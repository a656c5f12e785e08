"""/-/review: the calls to review, and the agreement of people and Retell.

In: a day, and how many calls of each agent; or the user, for the calls assigned to them. Out: a
list of calls, always the same for the same input, with links from each call to the next.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from datasette import Response

from receiver import clock
from receiver.browse.formatting import local_day
from receiver.browse.pages import (
    Reader,
    fetch_rows,
    require_reader,
    reviewer,
    timezone,
)
from receiver.browse.pages.reviewing import write_review
from receiver.clock import midnight_ms
from schema.sql.macros import plain
from schema.statistics import Estimate, sample, share

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

PER_AGENT, MAX_PER_AGENT = 5, 100
# Calls of one list.
_MAX_CALLS = 500
_LAST_CALL = "SELECT max(start_timestamp) AS at FROM calls WHERE start_timestamp < :until"
_DAY = plain("""
SELECT c.call_id, c.agent_id FROM calls c
LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
WHERE c.start_timestamp >= :since AND c.start_timestamp < :until
    AND is_over(c) AND is_connected(c, r)
""")
_MINE = """
SELECT entity_id AS call_id FROM annotations
WHERE kind = 'assignee' AND value = :user AND removed_at IS NULL
    AND EXISTS (SELECT 1 FROM calls c WHERE c.call_id = entity_id)
ORDER BY created_at DESC, entity_id LIMIT :count
"""
# The sample of a day has only calls.
_MY_CHATS = plain("""
SELECT c.chat_id, call_time(c) AS at, coalesce(agent_of_chat(c), c.agent_id) AS agent,
    coalesce(c.disconnection_reason, c.chat_status) AS outcome, c.chat_successful AS success,
    c.user_sentiment AS sentiment, c.chat_summary AS summary
FROM annotations n JOIN chats c ON c.chat_id = n.entity_id
WHERE n.kind = 'assignee' AND n.value = :user AND n.removed_at IS NULL
ORDER BY n.created_at DESC, c.chat_id LIMIT :count
""")
_CALLS = """
SELECT l.call_id, l.started_at_ms, l.agent, l.outcome, l.duration_seconds, l.success, l.sentiment,
    l.summary
FROM json_each(:ids) e JOIN call_log l ON l.call_id = e.value
"""
_VERDICTS = """
SELECT n.entity_id, n.author, n.value FROM json_each(:ids) e
JOIN annotations n ON n.entity_id = e.value
WHERE n.kind = 'verdict' AND n.position IS NULL AND n.removed_at IS NULL
    AND n.author NOT GLOB 'model:*'
ORDER BY n.changed_at
"""
# The newest verdict of a person on each call and chat, if it is good or bad.
_AGREEMENT = plain("""
WITH judged AS (
    SELECT entity_id, value, row_number() OVER (
        PARTITION BY entity_id ORDER BY changed_at DESC, annotation_id
    ) AS place
    FROM annotations
    WHERE kind = 'verdict' AND position IS NULL AND removed_at IS NULL
        AND value IN ('good', 'bad') AND author NOT GLOB 'model:*'
),
compared AS (
    SELECT c.agent_id, c.agent_version AS version, c.agent_name AS agent, j.value,
        a.call_successful AS successful
    FROM judged j
    JOIN calls c ON c.call_id = j.entity_id
    JOIN analyses a ON a.call_id = c.call_id
    WHERE j.place = 1
    UNION ALL
    SELECT c.agent_id, c.version, agent_of_chat(c), j.value, c.chat_successful
    FROM judged j
    JOIN chats c ON c.chat_id = j.entity_id
    WHERE j.place = 1
)
SELECT agent_id, version, max(agent) AS agent, count(*) AS judged,
    sum((value = 'good') = successful) AS agreed,
    sum(value = 'bad' AND successful) AS only_retell,
    sum(value = 'good' AND NOT successful) AS only_people
FROM compared
WHERE successful IN (0, 1)
GROUP BY agent_id, version
ORDER BY judged DESC, agent, version
""")


@dataclass(frozen=True, slots=True)
class Queue:
    """The calls of a queue: `per_agent` of each agent on a day, or those assigned to the user."""

    day: date
    per_agent: int = PER_AGENT
    agent: str = ""
    is_mine: bool = False

    @property
    def query(self) -> str:
        """Its address, without the path."""
        if self.is_mine:
            return urlencode({"mine": "1"})
        values = {"day": f"{self.day}", "per": self.per_agent, "agent": self.agent}
        return urlencode({name: value for name, value in values.items() if value})


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a call in a queue, its neighbours, and the address of the queue."""

    number: int
    count: int
    previous: str | None
    next: str | None
    query: str


def parse_queue(values: Mapping[str, str], latest: date) -> Queue:
    """The queue of an address; what cannot be read is the default. `latest`: the default day."""
    try:
        day = date.fromisoformat(values.get("day", ""))
    except ValueError:
        day = latest
    # The day before and the day after are linked.
    if not 1 < day.year < 9999:
        day = latest
    per = values.get("per", "")
    count = int(per) if per.isascii() and per.isdecimal() and len(per) < 5 else PER_AGENT
    return Queue(
        day, max(1, min(count, MAX_PER_AGENT)), values.get("agent", ""), "mine" in values
    )  # fmt: skip


async def fetch_ids(reader: Reader, queue: Queue, user: str | None) -> list[str]:
    """The calls of a queue, in its order."""
    if queue.is_mine:
        params = {"user": user or "", "count": _MAX_CALLS}
        return [row["call_id"] for row in await fetch_rows(reader, _MINE, params)]
    zone = timezone(reader.datasette)
    days = {"since": queue.day, "until": queue.day + timedelta(days=1)}
    params = {name: midnight_ms(day, zone) for name, day in days.items()}
    calls = await fetch_rows(reader, _DAY, params)
    if queue.agent:
        calls = [call for call in calls if call["agent_id"] == queue.agent]
    return sample(calls, queue.day, queue.per_agent)[:_MAX_CALLS]


async def place_of(reader: Reader, request: "Request", call_id: str) -> Place | None:
    """The place of a call in the queue that its address names, if it does."""
    if "queue" not in request.args:
        return None
    values = {name: found[0] for name, found in parse_qs(request.args["queue"]).items()}
    queue = parse_queue(values, await _latest_day(reader))
    ids = await fetch_ids(reader, queue, reviewer(reader.datasette, request))
    if call_id not in ids:
        return None
    at = ids.index(call_id)
    around = [ids[n] if 0 <= n < len(ids) else None for n in (at - 1, at + 1)]
    return Place(at + 1, len(ids), around[0], around[1], queue.query)


async def _latest_day(reader: Reader) -> date:
    """The last day with calls that is over, or today."""
    zone = timezone(reader.datasette)
    today = local_day(clock.now_ms(), zone)
    [last] = await fetch_rows(reader, _LAST_CALL, {"until": midnight_ms(today, zone)})
    try:
        return today if last["at"] is None else local_day(last["at"], zone)
    except (OverflowError, ValueError):
        return today


@dataclass(frozen=True, slots=True)
class Agreement:
    """The share of calls and chats judged by people on which Retell's call_successful agrees."""

    agent: str
    version: int | None
    estimate: Estimate
    only_retell: int
    only_people: int


async def fetch_agreement(reader: Reader) -> list[Agreement]:
    """By agent and version."""
    return [
        Agreement(
            agent=row["agent"] or row["agent_id"] or "Unknown agent",
            version=row["version"],
            estimate=estimate,
            only_retell=row["only_retell"],
            only_people=row["only_people"],
        )
        for row in await fetch_rows(reader, _AGREEMENT)
        if (estimate := share(row["agreed"], row["judged"]))
    ]


async def review_page(datasette: "Datasette", request: "Request") -> Response:
    """`/-/review`: GET shows a queue and the agreement, POST writes a review. Raises Forbidden."""
    if request.method == "POST":
        return await write_review(datasette, request)
    reader = await require_reader(datasette, request)
    user = reviewer(datasette, request)
    queue = parse_queue(
        {name: request.args[name] for name in request.args}, await _latest_day(reader)
    )
    ids = await fetch_ids(reader, queue, user)
    chats = []
    if queue.is_mine:
        chats = await fetch_rows(reader, _MY_CHATS, {"user": user or "", "count": _MAX_CALLS})
    verdicts: dict[str, list[Any]] = defaultdict(list)
    judged = json.dumps([*ids, *(chat["chat_id"] for chat in chats)])
    for row in await fetch_rows(reader, _VERDICTS, {"ids": judged}):
        verdicts[row["entity_id"]].append(row)
    calls = await fetch_rows(reader, _CALLS, {"ids": json.dumps(ids)})
    context = {
        "queue": queue,
        "calls": calls,
        "chats": chats,
        "verdicts": verdicts,
        "reviewed": sum(call["call_id"] in verdicts for call in calls),
        "user": user,
        "days": [queue.day + timedelta(days=n) for n in (-1, 1)],
        "agreement": await fetch_agreement(reader),
    }
    page = await datasette.render_template("review.html", context, request=request)
    return Response.html(page)
