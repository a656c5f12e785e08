"""PostgreSQL's partitions instead of a cluster's nodes: the plan shows which ones a statement
reads.

Every table that `distribute` would distribute is partitioned by the same column into the same
number of partitions, so that all rows of a call are in partitions with the same number.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from receiver.addresses import PostgresUrl
from receiver.store import migrate
from receiver.store.postgres import migrate as migrating
from receiver.store.postgres.citus_layout import DISTRIBUTED
from receiver.store.postgres.connection import Session
from tests.support.postgres import Cluster

PARTS = 4
_TABLE = re.compile(r"^CREATE TABLE (\w+) ", re.MULTILINE)
_PART = re.compile(r"(\w+)_part_(\d)")
_ONE_ROW = re.compile(r"INSERT INTO (\w+) \((\w+)\b[^()]*\) VALUES \(\?")
_PART_OF = """
    SELECT n FROM generate_series(0, %s - 1) n
    WHERE satisfies_hash_partition('observations'::regclass, %s, n, %s::text COLLATE "C")
"""


def _partitioned(statements: Iterable[str]) -> Iterator[str]:
    for statement in statements:
        made = _TABLE.search(statement)
        column = made and DISTRIBUTED.get(made[1])
        if not column:
            yield statement
            continue
        yield f"{statement.rstrip().rstrip(';')} PARTITION BY HASH ({column})"
        for n in range(PARTS):
            yield (
                f"CREATE TABLE {made[1]}_part_{n} PARTITION OF {made[1]} "
                f"FOR VALUES WITH (MODULUS {PARTS}, REMAINDER {n})"
            )


def partitioned(server: Cluster) -> PostgresUrl:
    """A new database with this version's tables, in parts."""
    where = server.create()
    with pytest.MonkeyPatch.context() as patch:
        tables = migrating.tables
        patch.setattr(migrating, "tables", lambda script, **_: _partitioned(tables(script)))
        own = _partitioned(migrating.OWN.values())
        patch.setattr(migrating, "OWN", {statement.split()[2]: statement for statement in own})
        migrate(where, timezone="UTC")
    return where


def touched(session: Session, statement: str, values: Any) -> tuple[set[int], set[str]]:
    """The numbers of the parts that a statement of SQLite's reads or writes, and what else it does.

    A row that is inserted goes to the part of its first column.
    """
    ((found,),) = session.execute(f"EXPLAIN (FORMAT JSON) {statement}", values).fetchall()
    names = set(_relations(found[0]["Plan"]))
    parts = {int(part[2]) for name in names if (part := _PART.fullmatch(name))}
    into = _ONE_ROW.match(statement)
    if into and into[1] in DISTRIBUTED:
        assert into[2] == DISTRIBUTED[into[1]], statement
        ((part,),) = session.raw.execute(_PART_OF, (PARTS, PARTS, values[0])).fetchall()
        parts.add(part)
        names.remove(into[1])
    elif found[0]["Plan"].get("Operation") == "Insert":
        assert not names & DISTRIBUTED.keys(), f"rows of many calls at once: {statement}"
    return parts, {name for name in names - DISTRIBUTED.keys() if not _PART.fullmatch(name)}


def _relations(plan: dict[str, Any]) -> Iterator[str]:
    if "Relation Name" in plan:
        yield plan["Relation Name"]
    for key in ("Plans", "Target Tables"):
        for child in plan.get(key, ()):
            yield from _relations(child)
