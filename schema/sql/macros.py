"""Words of our SQL files that stand for an expression, whatever the time zone."""

import re

from schema.events import EVENTS

# The first three are the expressions of indexes, which SQLite uses only for the very same ones.
_WORDS = {
    r"\bcall_time\((\w+)\)": r"coalesce(\1.start_timestamp, nullif(\1.observed_at, 0))",
    r"\bcustomer\((\w+)\)": (
        r"CASE \1.direction WHEN 'inbound' THEN \1.from_number ELSE \1.to_number END"
    ),
    r"\bis_unknown_event\((\w+)\)": (
        rf"\1.event NOT IN ({', '.join(repr(event) for event in EVENTS)})"
    ),
    r"\btotal_cents\(([\w.]+)\)": r"round(sum(\1), 6)",
    r"\bproduct_of\((\w+)\)": r"replace(\1.product, '-', '_')",
    r"\bstep_of\((\w+)\)": (
        r"CASE WHEN \1.value < 1000 THEN 10 WHEN \1.value < 10000 THEN 100 ELSE 1000 END"
    ),
    r"\bare_connected\((\w+), (\w+)\)": (
        r"CASE WHEN \1.started = 1 AND \2.category IS NOT 'not_connected' THEN 1 ELSE 0 END"
    ),
    r"\bis_connected\((\w+), (\w+)\)": (
        r"(\1.start_timestamp IS NOT NULL AND \2.category IS NOT 'not_connected')"
    ),
}


def plain(sql: str) -> str:
    """Replace each word by what it means."""
    for word, meaning in _WORDS.items():
        sql = re.sub(word, meaning, sql)
    return sql
