"""Macros of the SQL files that do not depend on the time zone: each stands for an expression."""

import re

from schema.events import EVENTS

# The first three are expressions of indexes, which are used only for the very same expression.
_MACROS = {
    r"\bcall_time\((\w+)\)": r"coalesce(\1.start_timestamp, nullif(\1.observed_at, 0))",
    r"\bcustomer\((\w+)\)": (
        r"CASE \1.direction WHEN 'inbound' THEN \1.from_number ELSE \1.to_number END"
    ),
    r"\bis_unknown_event\((\w+)\)": (
        rf"\1.event NOT IN ({', '.join(repr(event) for event in EVENTS)})"
    ),
    # Larger squares could overflow in PostgreSQL, which is an error there.
    r"\bsquare\(([\w.]+)\)": r"CASE WHEN abs(\1) >= 1e150 THEN 1e300 ELSE \1 * \1 END",
    r"\btotal_cents\(([\w.]+)\)": r"round(sum(\1), 6)",
    r"\bproduct_of\((\w+)\)": r"replace(\1.product, '-', '_')",
    r"\bstep_of\((\w+)\)": (
        r"CASE WHEN \1.value < 1000 THEN 10 WHEN \1.value < 10000 THEN 100 ELSE 1000 END"
    ),
    r"\bare_connected\((\w+), (\w+)\)": (
        r"CASE WHEN \1.started = 1 AND coalesce(\2.category, '') <> 'not_connected' "
        r"THEN 1 ELSE 0 END"
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
