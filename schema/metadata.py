"""What Datasette says about the tables and views, and how it opens them.

`python -m schema.metadata > datasette_metadata.json` writes the committed file.
"""

import json
from typing import Any

from schema.tables import ROLLUP_TABLES, TABLES
from schema.view_descriptions import VIEWS

_TITLE = "Call records"
_DESCRIPTION = (
    "Every call that Retell AI reported to this callhouse: for whoever runs the agents, answers "
    "for their calls or pays for them. Begin with call_log; needs_attention lists what is wrong."
)

# Facets are on columns that an index of calls answers, or on small views: others would hold a page
# up. Sorting is open on what can be sorted by its value in reasonable time.
_PRESENTATION: dict[str, dict[str, Any]] = {
    "call_log": {
        "facets": ["agent", "outcome", "direction"],
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
    # These come in their order as they are; sorting would read them from end to end.
    "timeline": {"sortable_columns": []},
    "words": {"sortable_columns": []},
    "daily_summary": {"size": 31, "sortable_columns": []},
    "agent_scorecard": {"sort_desc": "calls"},
    "tool_scorecard": {"sort_desc": "calls"},
    "cost_by_product": {"sort_desc": "cost_dollars"},
    # Each facet would add up every hour once more.
    "latency_by_agent": {"sort_desc": "calls"},
    "disconnections": {"sort_desc": "calls", "facets": ["category"]},
    "needs_attention": {"sort_desc": "since", "facets": ["what"]},
    "drift": {"sort_desc": "entities", "facets": ["what"]},
    "calls": {
        "facets": ["agent_name", "disconnection_reason", "direction"],
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
# The hourly views show these, and what is not added up yet.
_PRESENTATION |= {table.name: {"hidden": True} for table in ROLLUP_TABLES}


def metadata() -> dict[str, Any]:
    """Metadata for Datasette 0.65: nothing without a login, a sentence on every column."""
    return {
        "title": _TITLE,
        "description": _DESCRIPTION,
        # Nobody without a login; what a login sees is for the plugin to say.
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
        for table in (*TABLES, *ROLLUP_TABLES)
    }


def _plumbing() -> dict[str, Any]:
    return {"_sqlite_migrations": {"hidden": True}}


def render() -> str:
    """The text of datasette_metadata.json."""
    return json.dumps(metadata(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(render(), end="")
