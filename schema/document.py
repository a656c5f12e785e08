"""The tables and views as a page of documentation.

`python -m schema.document > docs/reference/tables.md` writes the committed file.
"""

from collections.abc import Iterable, Mapping

from schema.tables import ROLLUP_TABLES, TABLES
from schema.view_descriptions import VIEWS

_HEAD = """# Tables and views

Timestamps are milliseconds since the epoch, UTC; costs are US cents in tables and dollars in
views; booleans are 0 and 1; JSON is text. Everything but the keys can be null. Tables come first,
then the views made for looking and asking.
"""


def document() -> str:
    """Markdown with a section for every table and view."""
    parts = [_HEAD]
    for table in (*TABLES, *ROLLUP_TABLES):
        key = ", ".join(f"`{column}`" for column in table.key)
        parts.append(_section(table.name, f"{table.description} Key: {key}.", table.columns))
    for name, view in VIEWS.items():
        parts.append(_section(name, f"View. {view.description}", view.columns))
    return "\n".join(parts)


def _section(name: str, description: str, columns: Mapping[str, str]) -> str:
    rows: Iterable[str] = (f"| `{column}` | {words} |" for column, words in columns.items())
    table = "\n".join(["| column | meaning |", "|---|---|", *rows])
    return f"## {name}\n\n{description}\n\n{table}\n"


if __name__ == "__main__":
    print(document(), end="")
