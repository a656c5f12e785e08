"""What must hold of a database file after any fault."""

import os
from collections import Counter
from pathlib import Path

from receiver.store import Store, rebuild
from receiver.store.connection import connect, sqlite3
from tests.support.tables import dump

# Per test, how many acknowledged events were looked for; printed at the end.
CHECKED: Counter[str] = Counter()


def stored(path: Path) -> list[str]:
    """The hash of every observation in the file."""
    connection = connect(path, busy_timeout_ms=5000)
    try:
        return [sha for (sha,) in connection.execute("SELECT body_sha256 FROM observations")]
    finally:
        connection.close()


def check(path: Path, acked: set[str], sent: set[str]) -> None:
    """Everything acknowledged is stored once, nothing else is, and nothing is half written."""
    found = stored(path)
    CHECKED[os.environ["PYTEST_CURRENT_TEST"].rpartition("::")[2].partition(" ")[0]] += len(acked)
    assert acked <= set(found), f"{len(acked - set(found))} acknowledged events are lost"
    assert set(found) <= sent, "something is stored that nobody sent"
    assert len(found) == len(set(found)), "an event is stored twice"
    copy = path.with_name("checked.db")
    source, target = connect(path, busy_timeout_ms=5000), sqlite3.connect(copy)
    try:
        assert source.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert source.execute("PRAGMA foreign_key_check").fetchall() == []
        source.backup(target)
        before = dump(target)
        store = Store(copy)
        rebuild(store, progress=lambda *_: None)
        store.close()
        assert dump(target) == before, "the rows are not those of the stored events"
        target.execute("INSERT INTO transcripts_fts (transcripts_fts) VALUES ('integrity-check')")
    finally:
        source.close()
        target.close()
        for file in path.parent.glob("checked.db*"):
            file.unlink()
