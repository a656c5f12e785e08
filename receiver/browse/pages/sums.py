"""Sums over the calls, or the chats, of a period and of the time before.

Figures of whole days and hours come from rollups, those of the rest before from single calls. A
query over its time limit leaves its figures out, so that the page stays fast.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from receiver.browse.datasette_compat import QueryInterrupted
from receiver.browse.formatting import local_day
from receiver.browse.pages import Reader, fetch_rows, timezone
from receiver.browse.pages.periods import Period
from schema.sql.macros import plain

Rows = list[dict[str, Any]]
# The filters of every query; an empty one means all calls.
FILTERS = ("account", "agent", "version", "direction")
# Long, because the machine may be busy.
_LIMIT_MS = 2_000
_HOUR_MS = 3_600_000

# The years 2 to 9998: in every time zone, there are days before and after. Older versions stored
# impossible times, which pages skip.
_FIRST_MS, _LAST_MS = -62_104_060_800_000, 253_370_764_799_999
_IS_DATED = f"BETWEEN {_FIRST_MS} AND {_LAST_MS}"
FIRST_AND_LAST = f"""
SELECT min(at) AS first, max(at) AS last FROM (
    SELECT (SELECT min(started_at_ms) FROM call_log WHERE started_at_ms {_IS_DATED}) AS at
    UNION ALL SELECT max(started_at_ms) FROM call_log WHERE started_at_ms {_IS_DATED}
)
"""
# Uses the index of starts. Few chats have none; 0 is not a time.
FIRST_AND_LAST_OF_CHATS = f"""
SELECT min(at) AS first, max(at) AS last FROM (
    SELECT min(start_timestamp) AS at FROM chats WHERE start_timestamp {_IS_DATED}
    UNION ALL SELECT max(start_timestamp) FROM chats WHERE start_timestamp {_IS_DATED}
    UNION ALL SELECT min(observed_at) FROM chats
    WHERE start_timestamp IS NULL AND observed_at <> 0 AND observed_at {_IS_DATED}
    UNION ALL SELECT max(observed_at) FROM chats
    WHERE start_timestamp IS NULL AND observed_at <> 0 AND observed_at {_IS_DATED}
)
"""

_CHOSEN = """
    AND (:account = '' OR {t}.account = :account)
    AND (:agent = '' OR {t}.agent_id = :agent)
    AND (:version = '' OR {t}.agent_version = CAST(:version AS INTEGER))
    AND (:direction = '' OR coalesce({t}.direction, 'web') = :direction)
"""
_IS_BETWEEN = """
    h.day >= :before_since AND h.day < :until AND NOT (h.day >= :before_until AND h.day < :since)
"""
# Both give a row for each agent and reason; `half` is 1 in the period and 0 in the time before. A
# call that never connected counts as a call and in no share, as in the views.
_CALL_TIME = plain("call_time(c)")
# Each range is one of the index calls_at. Subqueries, as a limited login reads a join once a call.
_OF_CALLS = plain(f"""
SELECT
    half, agent_id, max(agent_name) AS agent_name, reason, category, connected,
    count(*) AS calls,
    -- A sum of integers may overflow, which is an error.
    sum(duration_ms + 0.0) AS ms,
    sum(cents) AS cents, sum(cents * cents) AS cents_squares, count(cents) AS with_cost,
    count(CASE WHEN successful <> 0 THEN 1 END) AS successful,
    count(successful) AS judged,
    count(CASE WHEN lower(trim(sentiment)) = 'negative' THEN 1 END) AS negative,
    count(sentiment) AS with_sentiment,
    count(
        CASE WHEN transfer_destination IS NOT NULL
            OR reason IN ('call_transfer', 'transfer_bridged') THEN 1 END
    ) AS transferred,
    sum(answer_ms) AS answer_ms, sum(answer_ms * answer_ms) AS answer_squares,
    count(answer_ms) AS answers
FROM (
    SELECT
        {_CALL_TIME} >= :since AS half, c.agent_id, c.agent_name, c.disconnection_reason AS reason,
        r.category, is_connected(c, r) AS connected, c.duration_ms, c.transfer_destination,
        c.combined_cost_cents AS cents,
        (SELECT a.call_successful FROM analyses a WHERE a.call_id = c.call_id) AS successful,
        (SELECT a.user_sentiment FROM analyses a WHERE a.call_id = c.call_id) AS sentiment,
        (
            SELECT l.p50_ms + 0.0 FROM latencies l
            WHERE l.call_id = c.call_id AND l.component = 'e2e'
        ) AS answer_ms
    FROM calls c LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
    WHERE {_CALL_TIME} >= :from AND {_CALL_TIME} < :until
        AND NOT ({_CALL_TIME} >= :before_until AND {_CALL_TIME} < :since)
        {_CHOSEN.format(t="c")}
)
GROUP BY half, agent_id, reason, connected
""")


def _of_rollups(view: str, at: str) -> str:
    """The same from rolled-up days or hours."""
    return plain(f"""
SELECT
    h.{at} >= :since AS half, h.agent_id, max(h.agent_name) AS agent_name,
    h.disconnection_reason AS reason, r.category, are_connected(h, r) AS connected,
    sum(h.calls) AS calls, sum(h.duration_ms_sum) AS ms, sum(h.cost_cents_sum) AS cents,
    sum(h.cost_cents_squares) AS cents_squares, sum(h.cost_count) AS with_cost,
    sum(h.successful_count) AS successful, sum(h.judged_count) AS judged,
    sum(h.negative_count) AS negative, sum(h.sentiment_count) AS with_sentiment,
    sum(h.transferred) AS transferred, sum(h.e2e_p50_ms_sum) AS answer_ms,
    sum(h.e2e_p50_ms_squares) AS answer_squares, sum(h.e2e_p50_count) AS answers
FROM {view} h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE h.{at} >= :before_since AND h.{at} < :until
    AND NOT (h.{at} >= :before_until AND h.{at} < :since)
    {_CHOSEN.format(t="h")}
GROUP BY half, h.agent_id, reason, connected
""")


# The columns are those of the sums over calls; a chat counts as connected.
_OF_CHATS = plain(f"""
SELECT
    call_time(c) >= :since AS half, 1 AS connected, count(*) AS calls,
    -- A sum of integers may overflow, which is an error.
    sum(coalesce(c.duration_ms, c.end_timestamp - c.start_timestamp) + 0.0) AS ms,
    sum(c.combined_cost_cents) AS cents,
    sum(square(c.combined_cost_cents)) AS cents_squares,
    count(c.combined_cost_cents) AS with_cost,
    count(CASE WHEN c.chat_successful <> 0 THEN 1 END) AS successful,
    count(c.chat_successful) AS judged,
    count(CASE WHEN lower(trim(c.user_sentiment)) = 'negative' THEN 1 END) AS negative,
    count(c.user_sentiment) AS with_sentiment,
    0 AS transferred, 0 AS answer_ms, 0 AS answer_squares, 0 AS answers
FROM (SELECT *, version AS agent_version FROM chats) c
WHERE (
        c.start_timestamp IS NULL
        OR (c.start_timestamp >= :before_since AND c.start_timestamp < :until)
    )
    AND call_time(c) >= :before_since AND call_time(c) < :until
    AND NOT (call_time(c) >= :before_until AND call_time(c) < :since)
    {_CHOSEN.format(t="c")}
GROUP BY half
""")
# The full hours of an unfinished day before.
_TOOLS = f"""
SELECT
    half, sum(tool_calls) AS tool_calls, sum(failed) AS failed, sum(said_no) AS said_no
FROM (
    SELECT h.day >= :since AS half, h.tool_calls, h.failed, h.said_no
    FROM daily_tools h
    WHERE {_IS_BETWEEN} {_CHOSEN.format(t="h")}
    UNION ALL
    SELECT 0, h.tool_calls, h.failed, h.said_no
    FROM hourly_tools h
    WHERE h.hour >= :from AND h.hour + 3600000 <= :part_until {_CHOSEN.format(t="h")}
)
GROUP BY half
"""


def _wait_percentiles(view: str, at: str) -> str:
    """Percentiles over every answer of every call, from counts of answers by length of wait."""
    return f"""
WITH
    waits AS (
        SELECT {at} >= :since AS half, wait_ms, sum(answers) AS answers
        FROM {view}
        WHERE {at} >= :before_since AND {at} < :until
            AND NOT ({at} >= :before_until AND {at} < :since)
            AND (:account = '' OR account = :account)
        GROUP BY 1, 2
    ),
    ranked AS (
        SELECT
            half, wait_ms,
            1.0 * sum(answers) OVER (PARTITION BY half ORDER BY wait_ms)
                / sum(answers) OVER (PARTITION BY half) AS reached
        FROM waits
    )
SELECT
    half,
    min(CASE WHEN reached >= 0.5 THEN wait_ms END) AS p50_ms,
    min(CASE WHEN reached >= 0.95 THEN wait_ms END) AS p95_ms
FROM ranked GROUP BY half
"""


async def fetch_in_time(reader: Reader, sql: str, params: Mapping[str, Any]) -> Rows | None:
    """The rows, or None after the time limit."""
    try:
        return await fetch_rows(reader, sql, dict(params), limit_ms=_LIMIT_MS)
    except QueryInterrupted:
        return None


async def fetch_groups(reader: Reader, period: Period, chosen: Mapping[str, str]) -> Rows | None:
    """The rows by agent and reason; None after the time limit."""
    params = period.params | _filters(chosen)
    found = []
    start = period.before_since
    if not period.is_day:
        start = period.before_midnight
        of_days = _days(reader, period) | _filters(chosen)
        found.append(fetch_in_time(reader, _of_rollups("daily_calls", "day"), of_days))
    if period.is_day or not period.is_whole:
        # The whole hours, and the calls of the rest.
        rest = start + (period.before_until - start) // _HOUR_MS * _HOUR_MS
        hours = {"before_since": start, "before_until": rest}
        hours |= {} if period.is_day else {"until": rest}
        of_hours = _of_rollups("hourly_calls", "hour")
        found.append(fetch_in_time(reader, of_hours, params | hours))
        part = {"from": rest, "until": period.before_until}
        found.append(fetch_in_time(reader, _OF_CALLS, params | part))
    results = await asyncio.gather(*found)
    if any(rows is None for rows in results):
        return None
    return [row for rows in results for row in rows or ()]


async def fetch_chats(reader: Reader, period: Period, chosen: Mapping[str, str]) -> Rows | None:
    """A row for each time that has chats; None after the time limit."""
    return await fetch_in_time(reader, _OF_CHATS, period.params | _filters(chosen))


async def fetch_tools(
    reader: Reader, period: Period, chosen: Mapping[str, str]
) -> dict[int, dict[str, Any]] | None:
    """Tool calls by half; None after the time limit."""
    part = {"from": period.before_midnight, "part_until": period.before_until}
    if period.is_whole:
        part["part_until"] = period.before_midnight
    params = _days(reader, period) | _filters(chosen) | part
    rows = await fetch_in_time(reader, _TOOLS, params)
    return rows if rows is None else {row.pop("half"): row for row in rows}


async def fetch_waits(
    reader: Reader, period: Period, chosen: Mapping[str, str]
) -> dict[int, dict[str, Any]]:
    """Percentiles of waits by half; none with a filter but the account, as they are counted for
    all agents together."""
    filters = _filters(chosen)
    if any(filters[name] for name in FILTERS if name != "account"):
        return {}
    if period.is_day:
        params: dict[str, Any] = dict(period.params)
        sql = _wait_percentiles("hourly_waits", "hour")
    else:
        zone = timezone(reader.datasette)
        params = {name: local_day(at, zone).isoformat() for name, at in period.params.items()}
        sql = _wait_percentiles("daily_waits", "day")
    return {row["half"]: row for row in await fetch_in_time(reader, sql, params | filters) or ()}


def _filters(chosen: Mapping[str, str]) -> dict[str, str]:
    return {name: chosen.get(name, "") for name in FILTERS}


def _days(reader: Reader, period: Period) -> dict[str, Any]:
    """The whole days of a period and of the time before, as the daily views name them."""
    zone = timezone(reader.datasette)
    times = dict(period.params)
    if not period.is_whole:
        times["before_until"] = period.before_midnight
    return {name: local_day(at, zone).isoformat() for name, at in times.items()}
