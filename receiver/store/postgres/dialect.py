"""SQLite's statements and tables, said to PostgreSQL.

One declaration serves both engines: `receiver/store/sql.py` and `schema/sql/migrations/` are
SQLite's, and written so that little has to change. What is not known here is an error, not a guess.
"""

import re
from collections.abc import Container

_TYPES = {
    # Every engine sorts and compares text byte by byte, as SQLite does.
    "TEXT": 'TEXT COLLATE "C"',
    "INTEGER": "BIGINT",
    "REAL": "DOUBLE PRECISION",
    "BLOB": "BYTEA",
}
_COLUMN = re.compile(
    r"(?P<name>[a-z0-9_]+) (?P<type>[A-Z]+)(?P<null> NOT NULL)?(?P<key> PRIMARY KEY)?"
    r"(?P<references> REFERENCES \w+ \(\w+\)( ON DELETE CASCADE)?)?"
)
_MADE = re.compile(r"CREATE TABLE (\w+)")
_REFERRING = re.compile(
    r"^ +(?P<name>\w+) [^\n]*?"
    r"(?P<references> REFERENCES (?P<parent>\w+) \(\w+\)(?: ON DELETE CASCADE)?)",
    re.MULTILINE,
)
_KEY = re.compile(r"PRIMARY KEY \([a-z0-9_, ]+\)")
_TABLE = re.compile(r"CREATE TABLE (\w+) \((.*)\) STRICT(?:, WITHOUT ROWID)?", re.DOTALL)
_ADDED = re.compile(r"ALTER TABLE (\w+) ADD COLUMN (.*)", re.DOTALL)
_INDEX = re.compile(r"CREATE INDEX (\w+) ON (\w+) \((.*?)\)( WHERE .*)?", re.DOTALL)
# How a table is recreated with another key. The same in both engines.
_MOVED = re.compile(
    r"CREATE TABLE \w+ AS SELECT \* FROM \w+|DROP TABLE \w+"
    r"|INSERT INTO \w+ \([\w,\s]+\) SELECT\s[\w',\s]+\sFROM \w+"
)
_CASE = re.compile(r"CASE .*? END", re.DOTALL)

# An index of PostgreSQL holds no row above 2,700 bytes; Retell's text may be longer than that.
_LONG = {"attributes_value": "value", "observations_unknown_event": "event"}
_PREFIX = 200

# The index of words: PostgreSQL keeps it by itself, so SQLite's triggers have no counterpart. It
# covers two hours of talk; a longer text could be more than the index takes.
_FULL_TEXT = 'CREATE VIRTUAL TABLE transcripts_fts USING fts5 (transcript, content="transcripts")'
_WORDS_INDEX = (
    "CREATE INDEX transcripts_fts ON transcripts "
    "USING gin (to_tsvector('simple', left(transcript, 100000)))"
)
_TRIGGER = re.compile(r"CREATE TRIGGER transcripts_fts_\w+ .*?END", re.DOTALL)


def tables(script: str) -> list[str]:
    """The statements of a migration. Raises ValueError for one that is not understood."""
    text = re.sub(r"^\s*--.*\n", "", script, flags=re.MULTILINE)
    statements = _TRIGGER.sub("", text).split(";")
    return [_statement(s.strip()) for s in statements if s.strip()]


def apart(statement: str, parents: Container[str]) -> tuple[str, list[str]]:
    """A statement without a new table's references to `parents`, and those that add them later."""
    made = _MADE.match(statement)
    if made is None:
        return statement, []
    added = []
    for column in _REFERRING.finditer(statement):
        if column["parent"] in parents:
            statement = statement.replace(column[0], column[0].removesuffix(column["references"]))
            added.append(
                f"ALTER TABLE {made[1]} ADD CONSTRAINT {made[1]}_{column['name']}_fkey "
                f"FOREIGN KEY ({column['name']}){column['references']}"
            )
    return statement, added


def _statement(said: str) -> str:
    if said == _FULL_TEXT:
        return _WORDS_INDEX
    if table := _TABLE.fullmatch(said):
        parts = [part.strip() for part in re.split(r",\s*\n", table[2])]
        columns = ",\n    ".join(p if _KEY.fullmatch(p) else _column(p) for p in parts)
        return f"CREATE TABLE {table[1]} (\n    {columns}\n)"
    if added := _ADDED.fullmatch(said):
        return f"ALTER TABLE {added[1]} ADD COLUMN {_column(added[2])}"
    if said.startswith("CREATE INDEX ") and (index := _INDEX.fullmatch(said)):
        return _index(*index.groups(""))
    if _MOVED.fullmatch(said):
        return said
    raise ValueError(f"no PostgreSQL is known for: {said[:80]}")


def _column(said: str) -> str:
    column = _COLUMN.fullmatch(said)
    if column is None or column["type"] not in _TYPES:
        raise ValueError(f"no PostgreSQL is known for the column: {said[:80]}")
    rest = "".join(column[part] or "" for part in ("null", "key", "references"))
    return f"{column['name']} {_TYPES[column['type']]}{rest}"


def _index(name: str, table: str, columns: str, where: str) -> str:
    columns = _CASE.sub(lambda case: f"({case[0]})", columns)
    if long := _LONG.get(name):
        columns = re.sub(rf"\b{long}\b", f"left({long}, {_PREFIX})", columns)
    return f"CREATE INDEX {name} ON {table} ({columns}){where}"
