"""The tables and views as a page of documentation.

`python -m schema.document > docs/reference/tables.md` writes the committed file.
"""

from collections.abc import Iterable, Iterator, Mapping

from schema.tables import (
    CALL_TABLES,
    CALLS,
    CHAT_TABLES,
    CHATS,
    ROLLUP_TABLES,
    TABLES,
    Table,
)
from schema.view_descriptions import VIEWS

_HEAD = """# Tables and views

Timestamps are milliseconds since the epoch, UTC, and ISO text in views; costs are US cents in
tables and dollars in views; booleans are 0 and 1; JSON is text. Everything but the keys can be
null.
"""

_DIAGRAM = """## Diagram

Solid lines are foreign keys. Dotted lines are columns to join by: an observation or an erasure can
be stored without its call. `syncs`, `coverage` and the rollups are not about single calls.
"""

# Columns to join by that are no foreign keys: parent, its side, the child's side, child, column.
_JOINS = (
    ("disconnection_reasons", "|o", "o{", "calls", "disconnection_reason"),
    ("calls", "|o", "o|", "upstream_calls", "call_id"),
    ("calls", "|o", "o{", "observations", "entity_id"),
    ("chats", "|o", "o{", "observations", "entity_id"),
    ("erasures", "|o", "o{", "observations", "entity_id"),
)


def document() -> str:
    """Markdown: an index, a diagram, and a section for every view, table and rollup."""
    parts = [_HEAD]
    for title, names in (
        ("Views", VIEWS),
        ("Tables", [table.name for table in TABLES]),
        ("Rollups", [table.name for table in ROLLUP_TABLES]),
    ):
        parts.append(f"**{title}:**\n" + " ·\n".join(f"[{name}](#{name})" for name in names) + "\n")
    parts.append(f"{_DIAGRAM}\n```mermaid\n{diagram()}```\n")
    for name, view in VIEWS.items():
        parts.append(_section(name, f"View. {view.description}", view.columns))
    for table in (*TABLES, *ROLLUP_TABLES):
        key = ", ".join(f"`{column}`" for column in table.key)
        kind = "Rollup" if table in ROLLUP_TABLES else "Table"
        parts.append(
            _section(table.name, f"{kind}. {table.description} Key: {key}.", table.columns)
        )
    return "\n".join(parts)


def diagram() -> str:
    """An entity diagram of the tables, in Mermaid."""
    lines = [*(_foreign_keys(CALLS, CALL_TABLES)), *(_foreign_keys(CHATS, CHAT_TABLES))]
    lines += [
        f"{parent} {side}..{other} {child} : {column}"
        for parent, side, other, child, column in _JOINS
    ]
    return "erDiagram\n" + "".join(f"    {line}\n" for line in lines)


def _foreign_keys(parent: Table, tables: Iterable[Table]) -> Iterator[str]:
    """A line for each table that refers to the parent by its key, with one row or many."""
    [column] = parent.key
    for table in tables:
        if table is not parent:
            side = "o|" if table.key == parent.key else "o{"
            yield f"{parent.name} ||--{side} {table.name} : {column}"


def _section(name: str, description: str, columns: Mapping[str, str]) -> str:
    rows: Iterable[str] = (f"| `{column}` | {words} |" for column, words in columns.items())
    table = "\n".join(["| column | meaning |", "|---|---|", *rows])
    return f"## {name}\n\n{description}\n\n{table}\n"


if __name__ == "__main__":
    print(document(), end="")
