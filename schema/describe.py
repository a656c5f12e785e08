"""Describe the tables, views and questions: for Datasette, and as pages of the documentation.

`python -m schema.describe metadata` prints the committed datasette_metadata.json, `tables` and
`questions` print the pages of docs/reference/. `make describe` writes all three.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from schema.questions import Question, questions
from schema.tables import (
    ALL_TABLES,
    CALL_TABLES,
    CALLS,
    CHAT_TABLES,
    CHATS,
    ROLLUP_TABLES,
    TABLES,
    Table,
)
from schema.view_descriptions import VIEWS

_TITLE = "Call records"
_DESCRIPTION = (
    "Every call that Retell AI reported to this callhouse: for those who run the agents, are "
    "responsible for their calls, or pay for them. Begin with call_log; needs_attention lists "
    "problems."
)

# Facets are on columns with an index of calls, or on small views: others would be slow. Columns can
# be sorted if that takes reasonable time.
_PRESENTATION: dict[str, dict[str, Any]] = {
    "call_log": {
        "facets": ["agent", "outcome", "direction", "account"],
        "sort_desc": "started_at_ms",
        "size": 50,
        "sortable_columns": [
            "agent",
            "direction",
            "who",
            "status",
            "outcome",
            "cost_dollars",
            "duration_seconds",
            "started_at_ms",
        ],
    },
    # These are sorted already; another order would read all of them.
    "timeline": {"sortable_columns": []},
    "words": {"sortable_columns": []},
    "daily_summary": {"size": 31, "sortable_columns": []},
    "agent_scorecard": {"sort_desc": "calls"},
    "tool_scorecard": {"sort_desc": "calls"},
    "cost_by_product": {"sort_desc": "cost_dollars"},
    "cost_by_family": {"sort_desc": "cost_dollars"},
    "call_products": {"sortable_columns": []},
    "call_costs": {
        "sort_desc": "started_at_ms",
        "size": 50,
        "sortable_columns": ["cost_dollars", "duration_seconds", "billed_seconds", "started_at_ms"],
    },
    # Each facet would compute the sums of every hour again.
    "latency_by_agent": {"sort_desc": "calls"},
    "disconnections": {"sort_desc": "calls", "facets": ["category"]},
    "needs_attention": {"sort_desc": "since", "facets": ["what"]},
    "drift": {"sort_desc": "entities", "facets": ["what"]},
    "calls": {
        "facets": ["agent_name", "disconnection_reason", "direction", "account"],
        "sort_desc": "start_timestamp",
        "size": 50,
    },
    "transcripts": {"size": 20},
    "utterance_words": {"size": 50},
    "chats": {"sort_desc": "start_timestamp", "size": 50},
    "disconnection_reasons": {"facets": ["category"]},
    "erasures": {"sort_desc": "erased_at"},
    "coverage": {"sort_desc": "day", "facets": ["agent_name"]},
    "syncs": {"sort_desc": "started_at"},
}
# The hourly views show these, and the hours that are not rolled up yet.
_PRESENTATION |= {table.name: {"hidden": True} for table in ROLLUP_TABLES}


def metadata() -> dict[str, Any]:
    """Metadata for Datasette 0.65: access only with a login, and a description of every column."""
    return {
        "title": _TITLE,
        "description": _DESCRIPTION,
        # Nobody without a login. The plugin decides what each role sees.
        "allow": {"id": "*"},
        "databases": {"retell": {"tables": _views() | _tables() | _plumbing()}},
    }


def _views() -> dict[str, Any]:
    return {
        name: {"title": view.title, "description": view.description}
        | _PRESENTATION.get(name, {})
        | {"columns": view.columns}
        for name, view in VIEWS.items()
    }


def _tables() -> dict[str, Any]:
    return {
        table.name: {
            "title": table.name.replace("_", " ").capitalize(),
            "description": table.description,
        }
        | _PRESENTATION.get(table.name, {})
        | {"columns": table.columns}
        for table in ALL_TABLES
    }


def _plumbing() -> dict[str, Any]:
    return {"_sqlite_migrations": {"hidden": True}}


def render_metadata() -> str:
    """The text of datasette_metadata.json."""
    return json.dumps(metadata(), indent=2, ensure_ascii=False) + "\n"


_TABLES_HEAD = """# Tables and views

Timestamps are milliseconds since the epoch, UTC, and ISO text in views; costs are US cents in
tables and dollars in views; booleans are 0 and 1; JSON is text. Everything but the keys can be
null.
"""

_DIAGRAM = """## Diagram

Solid lines are foreign keys. Dotted lines are columns to join by: an observation or an erasure can
be stored without its call. `syncs`, `coverage`, `saved_views`, `statements`, `alerts`,
`retell_alerts` and the rollups are not about single calls.
"""

# Columns to join by that are not foreign keys: parent, its side, the child's side, child, column.
_JOINS = (
    ("disconnection_reasons", "|o", "o{", "calls", "disconnection_reason"),
    ("calls", "|o", "o|", "upstream_calls", "call_id"),
    ("calls", "|o", "o{", "observations", "entity_id"),
    ("chats", "|o", "o{", "observations", "entity_id"),
    ("calls", "|o", "o{", "media_files", "call_id"),
    ("calls", "|o", "o{", "annotations", "entity_id"),
    ("chats", "|o", "o{", "annotations", "entity_id"),
    ("calls", "|o", "o{", "share_links", "call_id"),
    ("erasures", "|o", "o{", "observations", "entity_id"),
    ("receipts", "|o", "o{", "erasures", "receipt_id"),
    ("account_keys", "|o", "o{", "observations", "key_id"),
)


def render_tables() -> str:
    """docs/reference/tables.md: an index, a diagram, a section for each view, table and rollup."""
    parts = [_TABLES_HEAD]
    for title, names in (
        ("Views", VIEWS),
        ("Tables", [table.name for table in TABLES]),
        ("Rollups", [table.name for table in ROLLUP_TABLES]),
    ):
        parts.append(f"**{title}:**\n" + " ·\n".join(f"[{name}](#{name})" for name in names) + "\n")
    parts.append(f"{_DIAGRAM}\n```mermaid\n{diagram()}```\n")
    for name, view in VIEWS.items():
        parts.append(_table_section(name, f"View. {view.description}", view.columns))
    for table in ALL_TABLES:
        key = ", ".join(f"`{column}`" for column in table.key)
        kind = "Rollup" if table in ROLLUP_TABLES else "Table"
        parts.append(
            _table_section(table.name, f"{kind}. {table.description} Key: {key}.", table.columns)
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


def _table_section(name: str, description: str, columns: Mapping[str, str]) -> str:
    rows: Iterable[str] = (f"| `{column}` | {words} |" for column, words in columns.items())
    table = "\n".join(["| column | meaning |", "|---|---|", *rows])
    return f"## {name}\n\n{description}\n\n{table}\n"


_QUESTIONS_HEAD = """# Questions ready to ask

These queries are below the tables on the page of the database in Datasette. Open one, fill in a
number or leave it empty for the default, and press the button. Each answer has CSV and JSON links,
and its SQL can be shown and edited. Days are counted back from the newest call. The SQL is in
`schema/questions/`, one file each.
"""


def render_questions() -> str:
    """docs/reference/questions.md: a section for every question."""
    return "\n".join([_QUESTIONS_HEAD, *map(_question_section, questions().values())])


def _question_section(question: Question) -> str:
    rows = "\n".join(f"| `{p.name}` | {p.default} | {p.meaning} |" for p in question.parameters)
    table = f"\n| parameter | default | meaning |\n|---|---|---|\n{rows}\n"
    return f"## {question.title}\n\n{question.description} (`{question.name}`)\n{table}"


_RENDER = {"metadata": render_metadata, "tables": render_tables, "questions": render_questions}

if __name__ == "__main__":
    print(_RENDER[sys.argv[1]](), end="")
