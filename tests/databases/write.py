"""Write the SQL of a file of the newest version with rows in it, named after its last migration.

    python tests/databases/write.py

Run it when a migration is added, and keep what it wrote for ever: from then on
`tests/store/test_migrations.py` migrates that version too.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from receiver.store import Store, migrate, receive
from receiver.store.connection import Connection, connect

HERE = Path(__file__).parent
PAYLOADS = (
    "event-call_analyzed",
    "event-chat_analyzed-api_chat",
    "event-transfer_bridged-destination_sip_string-option_snake_case",
)
RECEIVED_MS = 1_778_699_295_274

# The tables inside a full-text index are made by it.
OBJECTS = (
    "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL "
    "AND name NOT LIKE 'sqlite_%' AND name NOT LIKE '%\\_fts\\_%' ESCAPE '\\' OR type = 'trigger'"
)


def main() -> None:
    """Write <last migration>.sql beside this file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "retell.db"
        newest = migrate(path, timezone="UTC")[-1]
        store = Store(path)
        for name in PAYLOADS:
            body = (HERE.parent / "payloads" / f"{name}.json").read_bytes()
            store.add(
                receive(body, source="webhook", observed_at=RECEIVED_MS, received_at=RECEIVED_MS)
            )
        store.close()
        connection = connect(path, busy_timeout_ms=0)
        script = "\n".join(statements(connection)) + "\n"
        connection.close()
    (HERE / f"{newest}.sql").write_text(script, encoding="utf-8")


def statements(connection: Connection) -> Iterator[str]:
    """What makes the same file again: its objects, then its rows, which fill the index."""
    objects = connection.execute(OBJECTS).fetchall()
    for _, _, sql in objects:
        yield f"{sql};"
    for kind, name, sql in objects:
        if kind == "table" and "VIRTUAL" not in sql:
            yield from inserts(connection, name)


def inserts(connection: Connection, table: str) -> Iterator[str]:
    """The rows of a table."""
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    values = " || ', ' || ".join(f"quote({column})" for column in columns)
    for (row,) in connection.execute(f"SELECT {values} FROM {table}"):
        yield f"INSERT INTO {table} VALUES ({row});"


if __name__ == "__main__":
    main()
