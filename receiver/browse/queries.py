"""The questions our pages ask, beside those built from schema.tables.

call_log stands for calls where a row's time or the number at its other end decides: its columns are
the expressions of indexes, so that each of these reads what it shows and no more.
"""

_NEIGHBOUR = """
SELECT call_id, started_at_ms AS at FROM call_log
WHERE who = :value AND started_at_ms {than}= :at AND (started_at_ms, call_id) {than} (:at, :call_id)
ORDER BY started_at_ms {order}, call_id {order} LIMIT 1
"""
PREVIOUS_OF_NUMBER = _NEIGHBOUR.format(than="<", order="DESC")
NEXT_OF_NUMBER = _NEIGHBOUR.format(than=">", order="ASC")

# By the agent's id, for its name carries the version and changes; calls that never connected are
# passed over.
_AGENT_NEIGHBOUR = """
SELECT call_id, start_timestamp AS at FROM calls
WHERE agent_id = :value AND (start_timestamp, call_id) {than} (:at, :call_id)
ORDER BY start_timestamp {order}, call_id {order} LIMIT 1
"""
PREVIOUS_OF_AGENT = _AGENT_NEIGHBOUR.format(than="<", order="DESC")
NEXT_OF_AGENT = _AGENT_NEIGHBOUR.format(than=">", order="ASC")

REASON = "SELECT category, description FROM disconnection_reasons WHERE reason = ?"
ERASED = "SELECT 1 FROM erasures WHERE entity_id = ?"


def choices(table: str, column: str) -> str:
    """The distinct values of an indexed column, from one to the next: no scan of the table."""
    return f"""
WITH RECURSIVE found (value) AS (
    SELECT min({column}) FROM {table}
    UNION ALL
    SELECT (SELECT min({column}) FROM {table} WHERE {column} > found.value)
    FROM found WHERE found.value IS NOT NULL
)
SELECT value FROM found WHERE value IS NOT NULL
"""


AGENTS = choices("calls", "agent_name")
OUTCOMES = choices("calls", "disconnection_reason")
TOOLS = choices("tool_calls", "name")

# Filter of the search page -> its condition on a row c of call_log.
FILTERS = {
    "agent": "c.agent = :agent",
    "outcome": "c.outcome = :outcome",
    "sentiment": "lower(trim(c.sentiment)) = lower(:sentiment)",
    "number": "c.who = :number",
    "since": "c.started_at_ms >= :since",
    "until": "c.started_at_ms < :until",
    "tool": "EXISTS (SELECT 1 FROM tool_calls t WHERE t.call_id = c.call_id AND t.name = :tool)",
}


def found_calls(filters: list[str], *, has_words: bool, by_time: bool) -> str:
    """The calls to show, newest first; not `by_time`, in the order of the index, which is about
    the order of arrival and needs no look at calls that are not shown."""
    source = (
        "transcripts_fts JOIN transcripts t ON t.rowid = transcripts_fts.rowid "
        "JOIN call_log c ON c.call_id = t.call_id"
        if has_words
        else "call_log c"
    )
    conditions = ["transcripts_fts MATCH :words"] * has_words + [FILTERS[name] for name in filters]
    where = f"WHERE {' AND '.join(conditions)} " if conditions else ""
    order = "c.started_at_ms" if by_time or not has_words else "transcripts_fts.rowid"
    return f"SELECT c.call_id FROM {source} {where}ORDER BY {order} DESC LIMIT :size OFFSET :skip"


_GIVEN = "(SELECT value FROM json_each(:ids))"
CALL_LINES = f"SELECT * FROM call_log WHERE call_id IN {_GIVEN}"
SESSION_UTTERANCES = f"""
SELECT call_id, position, role, content, start_seconds FROM utterances
WHERE call_id IN {_GIVEN} AND track = 'session' ORDER BY call_id, position
"""
# CROSS JOIN holds the order: of each call the index is asked, not of the index each call.
HIGHLIGHTED = f"""
SELECT t.call_id, highlight(transcripts_fts, 0, char(2), char(3)) AS marked
FROM transcripts t CROSS JOIN transcripts_fts ON transcripts_fts.rowid = t.rowid
WHERE t.call_id IN {_GIVEN} AND transcripts_fts MATCH :words
"""


# The years 2 to 9998: around each of these times there are whole days, whatever the zone. Pages
# begin and end with calls of them, and pass over times of no calendar that older versions stored.
_FIRST_MS, _LAST_MS = -62_104_060_800_000, 253_370_764_799_999
_IS_DATED = f"started_at_ms BETWEEN {_FIRST_MS} AND {_LAST_MS}"

# Home. Each period is a range of the index calls_at; `half` is 1 within it and 0 within as long a
# time before. A call that never connected counts as a call and in nothing else, as in the views.
_CALL_TIME = "coalesce(c.start_timestamp, nullif(c.observed_at, 0))"
_IN_PERIOD = f"{_CALL_TIME} >= :before_since AND {_CALL_TIME} < :until"
_OUTSIDE = f"({_CALL_TIME} >= :before_until AND {_CALL_TIME} < :since)"

LATEST = f"SELECT max(started_at_ms) AS at FROM call_log WHERE {_IS_DATED}"
ENDS = f"""
SELECT min(started_at_ms) AS first, max(started_at_ms) AS last FROM (
    SELECT (SELECT min(started_at_ms) FROM call_log WHERE {_IS_DATED}) AS started_at_ms
    UNION ALL SELECT max(started_at_ms) FROM call_log WHERE {_IS_DATED}
)
"""
AMOUNTS = f"""
SELECT
    {_CALL_TIME} >= :since AS half,
    count(*) AS calls,
    -- Integers could overflow in a sum, which is an error.
    sum(c.duration_ms + 0.0) / 60000.0 AS minutes,
    sum(c.combined_cost_cents) AS cents
FROM calls c WHERE {_IN_PERIOD} AND NOT {_OUTSIDE} GROUP BY 1
"""
SUCCESS = f"""
SELECT {_CALL_TIME} >= :since AS half, avg(a.call_successful) AS success
FROM calls c
JOIN analyses a ON a.call_id = c.call_id
LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
WHERE {_IN_PERIOD} AND NOT {_OUTSIDE}
    AND c.start_timestamp IS NOT NULL AND r.category IS NOT 'not_connected'
GROUP BY 1
"""
# The same of whole days, which are added up.
DAYS = """
SELECT
    h.day >= :since AS half,
    sum(h.calls) AS calls,
    sum(h.duration_ms_sum) / 60000.0 AS minutes,
    sum(h.cost_cents_sum) AS cents,
    1.0 * sum(h.successful_count) FILTER (WHERE h.started AND r.category IS NOT 'not_connected')
        / sum(h.judged_count) FILTER (WHERE h.started AND r.category IS NOT 'not_connected')
        AS success
FROM daily_calls h LEFT JOIN disconnection_reasons r ON r.reason = h.disconnection_reason
WHERE h.day >= :before_since AND h.day < :until AND NOT (h.day >= :before_until AND h.day < :since)
GROUP BY 1
"""


def _waits(view: str, at: str) -> str:
    """Percentiles over every answer of every call, not over percentiles of calls: the middle of the
    step in which they lie."""
    return f"""
WITH
    waits AS (
        SELECT {at} >= :since AS half, wait_ms, sum(answers) AS answers
        FROM {view}
        WHERE {at} >= :before_since AND {at} < :until
            AND NOT ({at} >= :before_until AND {at} < :since)
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


WAITS_OF_HOURS = _waits("hourly_waits", "hour")
WAITS_OF_DAYS = _waits("daily_waits", "day")
CALLS_BY_DAY = "SELECT day, sum(calls) AS calls FROM daily_calls WHERE day >= :since GROUP BY day"
ATTENTION = "SELECT what, count(*) AS entries FROM needs_attention GROUP BY what ORDER BY what"
NEWEST = "SELECT * FROM call_log ORDER BY started_at_ms DESC LIMIT 8"
