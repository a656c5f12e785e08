"""Limited logins: they read only the calls and chats of some accounts, agents or metadata values.

The connection of a limited login has no other rows. Its views join each table with the allowed
calls, which CROSS JOIN reads first, by the index of the table's key: SQLite then evaluates no
condition of a reader on a row that the reader may not see, so that not even an error of a condition
tells what such a row contains. Two cases have no such order, and are denied: a reader's own SQL on
the full-text index, and files with statistics, for which SQLite builds Bloom filters with the
conditions of readers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from receiver.errors import SettingsError
from schema.personal import HASHED
from schema.tables import ALL_TABLES, ROLLUP_TABLES

# Roles that may have limits: the others write.
_ROLES = ("reader", "masked")
# Retell's vocabulary, which contains no data of clients.
_SHARED = frozenset({"disconnection_reasons"})
# Full-text indexes, which only SQL of callhouse may use, and the tables whose rows they find.
INDEX = "transcripts_fts"
_OTHER_INDEXES = {
    "summaries_fts": "t.rowid AS rowid, t.text, t.summaries_fts",
    "characters_fts": "t.rowid AS rowid, t.text, t.characters_fts",
    "characters_terms": "t.*",
}
INDEXES = frozenset({INDEX, *_OTHER_INDEXES})
INDEXED = frozenset({"transcripts", "analyses", "chats"})
_WITH_ROWID = INDEXED | HASHED
# Further tables that the views of a limited login read.
JOINED = frozenset({"calls", "chats", "attributes", "transcripts", *INDEXES})

# Tables that views of figures join with the allowed calls.
LEFT_JOINED = frozenset({"analyses", "latencies", "call_metrics"})
# Tables of sums, and those with the hours and days that have sums.
_ROLLUPS = {table.name: table for table in ROLLUP_TABLES if "account" in table.columns}
ROLLED_UP = frozenset({"rollup_hours", "rollup_days"})
# The calls outside rolled-up hours, in views of figures.
_REMAINING = re.compile(
    r"(CROSS JOIN|FROM) calls c WHERE (\S.*) (BETWEEN .*|IS NULL)$", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The allowed accounts, agents, and values for each name of metadata.

    A call must match all of them. An empty one does not limit.
    """

    accounts: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    metadata: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.accounts or self.agents or self.metadata)

    def __str__(self) -> str:
        """Such as `account berlin, agent agent_1`; empty without limits."""
        return ", ".join(
            [
                *(f"account {name}" for name in self.accounts),
                *(f"agent {name}" for name in self.agents),
                *(f"metadata {name}={value}" for name, value in self.metadata),
            ]
        )

    @property
    def _values(self) -> dict[str, list[str]]:
        """The allowed values of each name of metadata."""
        found: dict[str, list[str]] = {}
        for name, value in self.metadata:
            found.setdefault(name, []).append(value)
        return found

    def _conditions(self) -> list[str]:
        """Conditions on `g`, a row of calls or chats."""
        return [
            f"g.{column} IN ({_listed(allowed)})"
            for column, allowed in (("account", self.accounts), ("agent_id", self.agents))
            if allowed
        ]

    def _of_calls(self) -> str:
        conditions = [
            *self._conditions(),
            *(
                "g.call_id IN (SELECT a.call_id FROM main.attributes a WHERE a.source = 'metadata' "
                f"AND a.name = {_literal(name)} AND a.value IN ({_listed(values)}))"
                for name, values in self._values.items()
            ),
        ]
        return " AND ".join(conditions)

    def _of_chats(self) -> str:
        json = "CASE WHEN json_valid(g.metadata) THEN g.metadata ELSE '{}' END"
        conditions = [
            *self._conditions(),
            *(
                # Not EXISTS, which SQLite turns into a join that is evaluated after the reader's
                # conditions.
                f"(SELECT count(*) FROM json_each({json}) j WHERE j.key = {_literal(name)} "
                f"AND CAST(j.value AS TEXT) IN ({_listed(values)})) > 0"
                for name, values in self._values.items()
            ),
        ]
        return " AND ".join(conditions)

    def reads_rollup(self, table: str) -> bool:
        """Whether the sums of the allowed calls are rows of this rollup table."""
        columns = {"account": self.accounts, "agent_id": self.agents}
        limited = {column for column, allowed in columns.items() if allowed}
        return not self.metadata and limited <= _ROLLUPS[table].columns.keys()

    def read_rollups(self, view: str) -> str:
        """The SQL of a view of figures, which reads the tables of hours and days, and finds the
        allowed calls first."""

        def allowed(match: re.Match[str]) -> str:
            time = match[2].replace("c.", "g.")
            return (
                f"{match[1]} main.calls g INDEXED BY calls_at CROSS JOIN main.calls c "
                f"WHERE {self._of_calls()} AND {time} {match[3]} AND c.call_id = g.call_id"
            )

        view = _REMAINING.sub(allowed, view)
        return re.sub(r"\bFROM (rollup_(?:hours|days))\b", r"FROM main.\1", view)

    def rows_of(self, table: str) -> str | None:
        """The SELECT of the rows of a table that are allowed; None for a table without any."""
        calls, chats = self._of_calls(), self._of_chats()
        if table in _SHARED:
            return f"SELECT t.* FROM main.{table} t"
        if table == "account_keys" and self.accounts:
            return f"SELECT t.* FROM main.{table} t WHERE t.account IN ({_listed(self.accounts)})"
        if table == INDEX:
            # Every column that a reader sees comes after the check. `transcripts_fts` is the
            # hidden column that MATCH and highlight() take.
            return (
                f"SELECT s.rowid AS rowid, s.transcript, f.{INDEX} FROM main.{INDEX} f "
                f"CROSS JOIN main.transcripts t CROSS JOIN main.calls g "
                f"CROSS JOIN main.transcripts s WHERE t.rowid = f.rowid "
                f"AND g.call_id = t.call_id AND {calls} AND s.rowid = t.rowid"
            )
        if table in _OTHER_INDEXES:
            # All rows: it is joined with limited tables.
            return f"SELECT {_OTHER_INDEXES[table]} FROM main.{table} t"
        if table in _ROLLUPS and self.reads_rollup(table):
            is_same = " AND ".join(f"t.{name} = g.{name}" for name in _ROLLUPS[table].key)
            # Without the plus signs, SQLite would make an index of all rows for each query.
            limits = " AND ".join(f"+{condition}" for condition in self._conditions())
            return (
                f"SELECT t.* FROM main.{table} g CROSS JOIN main.{table} t "
                f"WHERE {is_same} AND {limits}"
            )
        key = _OWNERS.get(table)
        rowid = ", t.rowid AS rowid" if table in _WITH_ROWID else ""
        if key == "chat_id":
            return _joined(table, "chats", "chat_id", chats, rowid=rowid)
        if key == "entity_id":
            of_calls = _joined(table, "calls", "call_id", calls, key, rowid)
            of_chats = _joined(table, "chats", "chat_id", chats, key, rowid)
            return f"{of_calls} UNION ALL {of_chats}"
        if key == "call_id":
            return _joined(table, "calls", "call_id", calls, rowid=rowid)
        return None


# Table -> the column with the id of a row's call or chat.
_OWNERS = {
    table.name: table.key[0]
    for table in ALL_TABLES
    if table.key[0] in ("call_id", "chat_id")
    or table.name in ("observations", "erasures", "annotations")
}


def _joined(
    table: str, owner: str, owner_key: str, condition: str, key: str = "", rowid: str = ""
) -> str:
    """The rows of a table whose call or chat is allowed."""
    return (
        f"SELECT t.*{rowid} FROM main.{owner} g "
        f"CROSS JOIN main.{table} t INDEXED BY sqlite_autoindex_{table}_1 "
        f"WHERE t.{key or owner_key} = g.{owner_key} AND {condition}"
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _listed(values: tuple[str, ...] | list[str]) -> str:
    return ", ".join(map(_literal, values))


def parse_limits(
    role: str, accounts: tuple[str, ...], agents: tuple[str, ...], metadata: tuple[str, ...]
) -> Limits:
    """The limits of a command's options; metadata as NAME=VALUE. Raises SettingsError."""
    if role not in _ROLES and (accounts or agents or metadata):
        raise SettingsError(
            "a login with limits can only read", hint="Use the role reader or masked with limits."
        )
    pairs = []
    for text in metadata:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise SettingsError(
                "metadata is limited by name and value", hint="Write --metadata client=acme."
            )
        pairs.append((name, value))
    if any("\0" in text for text in (*accounts, *agents, *metadata)):
        raise SettingsError("a limit has a NUL character", hint="Leave it out.")
    return Limits(tuple(accounts), tuple(agents), tuple(pairs))


def stored_limits(stored: Mapping[str, Any] | None) -> Limits:
    """The limits in the file of users. Raises TypeError or ValueError if damaged."""
    if not stored:
        return Limits()
    unknown = set(stored) - {"accounts", "agents", "metadata"}
    if unknown:
        raise ValueError(f"unknown limits: {unknown}")
    return Limits(
        _texts(stored.get("accounts", ())),
        _texts(stored.get("agents", ())),
        tuple((str(name), str(value)) for name, value in stored.get("metadata", ())),
    )


def _texts(values: Any) -> tuple[str, ...]:
    if isinstance(values, str):
        raise TypeError("a list of texts is expected")
    return tuple(map(str, values))
