"""Macros of the SQL files that do not depend on the time zone. Each expands to an expression."""

import re
from collections.abc import Collection

from schema.events import EVENTS
from schema.products import family_sql

# The condition of the index observations_unknown_event. It does not change when EVENTS grows.
_INDEXED_EVENTS = (
    "call_started", "call_ended", "call_analyzed", "transcript_updated",
    "transfer_started", "transfer_bridged", "transfer_cancelled", "transfer_ended",
    "chat_started", "chat_ended", "chat_analyzed",
    "call_inbound", "chat_inbound", "alert_triggered",
)  # fmt: skip


def unknown_event(alias: str, events: Collection[str] = EVENTS) -> str:
    """The condition for an event that is not among `events`.

    Events that the index does not name are a separate condition, so that the database can use the
    index.
    """
    later = [event for event in events if event not in _INDEXED_EVENTS]
    conditions = [
        f"{alias}.event NOT IN ({', '.join(map(repr, names))})"
        for names in (_INDEXED_EVENTS, later)
        if names
    ]
    return " AND ".join(conditions)


# Versions may have names of their own: the name of the newest version among the newest calls, whose
# number bounds the time.
_NAME_OF_AGENT = (
    "(SELECT n.agent_name FROM (SELECT o.agent_name, o.agent_version, o.start_timestamp "
    "FROM calls o WHERE o.agent_id = {} AND o.agent_name IS NOT NULL "
    "ORDER BY o.start_timestamp DESC LIMIT 20) n "
    "ORDER BY n.agent_version DESC, n.start_timestamp DESC LIMIT 1)"
)
# The first four are expressions of indexes, which are used only for exactly the same expression.
_MACROS = {
    r"\bcall_time\((\w+)\)": r"coalesce(\1.start_timestamp, nullif(\1.observed_at, 0))",
    r"\bcustomer\((\w+)\)": (
        r"CASE \1.direction WHEN 'inbound' THEN \1.from_number ELSE \1.to_number END"
    ),
    r"\bis_unknown_event\((\w+)\)": unknown_event(r"\1"),
    # The levels in schema/merge.py.
    r"\bis_unfinished\((\w+)\)": r"\1.level < 3",
    r"\bis_over\((\w+)\)": r"\1.level >= 2",
    # Larger squares could overflow in PostgreSQL, which is an error there.
    r"\bsquare\(([\w.]+)\)": r"CASE WHEN abs(\1) >= 1e150 THEN 1e300 ELSE \1 * \1 END",
    r"\btotal_cents\(([\w.]+)\)": r"round(sum(\1), 6)",
    r"\bfamily_dollars\((\w+), ([\w -]+)\)": (
        r"(SELECT CAST(round(round(sum(p.cost_cents), 6) / 100.0, 4) AS DOUBLE PRECISION) "
        r"FROM call_products p WHERE p.call_id = \1.call_id AND p.family = '\2')"
    ),
    r"\bfamily_of\((\w+)\)": family_sql(r"\1.product").replace("\\1", r"\1"),
    r"\bproduct_of\((\w+)\)": r"replace(\1.product, '-', '_')",
    r"\bstep_of\((\w+)\)": (
        r"CASE WHEN \1.value < 1000 THEN 10 WHEN \1.value < 10000 THEN 100 ELSE 1000 END"
    ),
    r"\bare_connected\((\w+), (\w+)\)": (
        r"CASE WHEN \1.started = 1 AND coalesce(\2.category, '') <> 'not_connected' "
        r"THEN 1 ELSE 0 END"
    ),
    r"\bname_of_agent\(([\w.:]+)\)": _NAME_OF_AGENT.format(r"\1"),
    # Chats of Retell have no name of their agent; calls have.
    r"\bagent_of_chat\((\w+)\)": (
        r"coalesce(\1.agent_name, " + _NAME_OF_AGENT.format(r"\1.agent_id") + ")"
    ),
    # The category of the reason if a chat has one, else its status.
    r"\bchat_outcome\((\w+)\)": (
        r"CASE WHEN \1.disconnection_reason IS NULL THEN coalesce(\1.chat_status, 'no end yet') "
        r"ELSE coalesce((SELECT r.category FROM disconnection_reasons r "
        r"WHERE r.reason = \1.disconnection_reason), 'unknown') END"
    ),
    r"\bis_connected\((\w+), (\w+)\)": (
        r"(\1.start_timestamp IS NOT NULL AND coalesce(\2.category, '') <> 'not_connected')"
    ),
}


def plain(sql: str) -> str:
    """Expand the macros."""
    for macro, expression in _MACROS.items():
        sql = re.sub(macro, expression, sql)
    return sql
