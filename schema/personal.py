"""What the role `masked` sees of each column.

A column is shown unchanged only if its table in schema/tables.py lists it as open; PERSONAL has
what is shown of the others. A column that is listed nowhere reads as NULL, and a test asks for a
decision.
"""

from schema.tables import ROLLUP_TABLES, TABLES, WORK_TABLES, Table

# Open are ids, times, amounts, and names chosen by Retell or by those who build the agents; never a
# caller's words, name or number, nor a hash that would confirm a guess of them. Rollups are sums
# over calls, with names of agents, tools and nodes.
OPEN = {table.name: frozenset(table.open.split()) for table in (*TABLES, *WORK_TABLES)} | {
    table.name: frozenset(table.names) for table in ROLLUP_TABLES
}


def _number(column: str) -> str:
    """The last two digits of a phone number; null for a SIP address or other text."""
    return (
        f"CASE WHEN {column} = 'anonymous' THEN {column} "
        f"WHEN length({column}) > 6 AND ltrim({column}, '+0123456789') = '' "
        f"THEN '•••' || substr({column}, -2) END"
    )


def _scrubbed(column: str, otherwise: str = "NULL") -> str:
    """The value where Retell removed personal data from it."""
    return f"CASE WHEN track GLOB 'scrubbed_*' THEN {column} ELSE {otherwise} END"


# Whether a tool succeeded, without its result.
_SUCCESS = (
    "CASE WHEN result IS NULL THEN NULL "
    "WHEN json_valid(result) AND json_type(result, '$.success') IN ('true', 'false') "
    """THEN '{"success": ' || json_type(result, '$.success') || '}' ELSE '{}' END"""
)

# Distinct, as the column is part of a key.
_INSTEAD_OF_HASH = "CAST(rowid AS TEXT)"

# A score is one of the answers that its question allows.
_SHOWN_ANNOTATION = "CASE WHEN kind IN ('verdict', 'assignee', 'score', 'usage') THEN value END"

# Names that Retell gives, but not values.
_NAME_OF_UNKNOWN = "CASE WHEN what IN ('key', 'role', 'product', 'component') THEN name END"

_REPLACED = {
    "calls": {
        "from_number": _number("from_number"),
        "to_number": _number("to_number"),
        "transfer_destination": _number("transfer_destination"),
    },
    "utterances": {"content": _scrubbed("content")},
    "utterance_words": {"words": _scrubbed("words")},
    "tool_calls": {
        "arguments": _scrubbed("arguments"),
        "result": _scrubbed("result", _SUCCESS),
    },
    "markers": {"body": _scrubbed("body")},
    "observations": {"body_sha256": _INSTEAD_OF_HASH},
    "outbox": {"body_sha256": _INSTEAD_OF_HASH},
    # This table has no rowid.
    "transfers": {
        "destination": _number("destination"),
        "body_sha256": "coalesce(event, '') || ' ' || coalesce(observed_at, '')",
    },
    "chats": {
        "agent_number": _number("agent_number"),
        "user_number": _number("user_number"),
    },
    "chat_messages": {
        "content": _scrubbed("content"),
        "arguments": _scrubbed("arguments"),
    },
    "annotations": {"value": _SHOWN_ANNOTATION},
    # Of groups by a value of the metadata, the sums have its hash.
    "statements": {"sums": "CASE WHEN grouped_by IN ('', 'account', 'agent') THEN sums END"},
    "unknowns": {"name": _NAME_OF_UNKNOWN},
    "chat_unknowns": {"name": _NAME_OF_UNKNOWN},
}
# Table -> column -> the SQL expression that is shown instead.
PERSONAL = {
    table.name: dict.fromkeys(table.hidden.split(), "NULL") | _REPLACED.get(table.name, {})
    for table in (*TABLES, *WORK_TABLES)
}
# Tables whose rowid is shown in place of a hash.
HASHED = frozenset(
    name for name, columns in PERSONAL.items() if _INSTEAD_OF_HASH in columns.values()
)


def shown(table: Table) -> list[str]:
    """The columns of a SELECT that shows no personal data of the table."""
    is_open, instead = OPEN.get(table.name, frozenset()), PERSONAL.get(table.name, {})
    return [
        name if name in is_open else f"{instead.get(name, 'NULL')} AS {name}"
        for name in table.names
    ]
