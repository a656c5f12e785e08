"""Two warehouses side by side: every row of every table that is not added up."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import zstandard

from receiver.addresses import Location
from receiver.store import copy_sql, sql
from receiver.store.engine import reading
from receiver.store.protocols import Connection
from receiver.store.spans import ALONE, Kept, Seen, Span, bare, rank, spans
from schema.tables import (
    CALL_TABLES,
    CHAT_TABLES,
    DISCONNECTION_REASONS,
    ERASURES,
    OBSERVATIONS,
    TABLES,
    UPSTREAM_CALLS,
    Table,
)
from schema.transcript import Row


@dataclass(slots=True)
class Comparison:
    """How many rows of each table were compared, and in how many the target is not the same.

    `behind` counts what has news in the source that the target lacks, `ahead` what has news in the
    target: calls, chats and other entities, and rows that no observation speaks of. Their rows are
    not compared.
    """

    rows: dict[str, int] = field(default_factory=lambda: {t.name: 0 for t in TABLES})
    different: dict[str, int] = field(default_factory=dict)
    behind: int = 0
    ahead: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the target has all of the source, and what it has is right."""
        return not self.different and not self.behind

    def note(self, table: Table, ours: Iterable[Row], theirs: Iterable[Row]) -> None:
        """Compare rows that should be the same ones."""
        before, after = ({_key(table, row): row for row in rows} for rows in (ours, theirs))
        self.rows[table.name] += len(before)
        count = sum(before.get(key) != after.get(key) for key in before.keys() | after.keys())
        if count:
            self.different[table.name] = self.different.get(table.name, 0) + count

    def note_newest(self, table: Table, ours: Iterable[Row], theirs: Iterable[Row]) -> None:
        """Compare rows of which the newer one counts."""
        before, after = ({_key(table, row): row for row in rows} for rows in (ours, theirs))
        same = []
        for key in before.keys() | after.keys():
            one, other = before.get(key), after.get(key)
            if one and other and (one == other or rank(table, one) == rank(table, other)):
                same.append(key)
            elif one and (not other or rank(table, one) > rank(table, other)):
                self.behind += 1
            else:
                self.ahead += 1
        self.note(table, [before[key] for key in same], [after[key] for key in same])


def compare(
    source: Location, target: Location, *, progress: Callable[[int, int], None]
) -> Comparison:
    """Compare what a copy carries, a portion of ids at a time, each at one moment.

    `progress` is called with how many entities are done of how many. Raises NotStored and
    DatabaseAway.
    """
    found = Comparison()
    with reading(source) as here, reading(target) as there:
        (total,) = here.execute(sql.COUNT_ENTITIES).fetchone()
        for table in ALONE:
            found.note_newest(table, *_all(table, here, there))
    done = 0
    for span in spans(source, target):
        with reading(source) as here, reading(target) as there:
            ours, theirs = span.seen(here), span.seen(there)
            _compare_span(found, span, (here, ours), (there, theirs))
        done += len(ours)
        progress(done, max(done, total))
    with reading(source) as here, reading(target) as there:
        before, after = (set(rows) for rows in _all(DISCONNECTION_REASONS, here, there))
    if found.behind or found.ahead:
        # Calls that are not the same may have reasons that no other has.
        common = {row[0] for row in before} & {row[0] for row in after}
        before, after = ({row for row in rows if row[0] in common} for rows in (before, after))
    found.note(DISCONNECTION_REASONS, before, after)
    return found


def _all(table: Table, *connections: Connection) -> list[list[Row]]:
    return [c.execute(copy_sql.all_of(table)).fetchall() for c in connections]


def _compare_span(
    found: Comparison,
    span: Span,
    source: tuple[Connection, defaultdict[str, Seen]],
    target: tuple[Connection, defaultdict[str, Seen]],
) -> None:
    (here, ours), (there, theirs) = source, target
    ids = ours.keys() | theirs.keys()
    behind = {n for n in ids if theirs[n].lacks(ours[n])}
    ahead = {n for n in ids if ours[n].lacks(theirs[n])} - behind
    found.behind += len(behind)
    found.ahead += len(ahead)
    for table in (*CALL_TABLES, *CHAT_TABLES, ERASURES):
        rows = (span.rows(connection, table) for connection in (here, there))
        found.note(table, *([r for r in part if r[0] not in behind | ahead] for part in rows))
    same = ids - behind - ahead
    before, after = (_readable(span, c, same, ours) for c in (here, there))
    by_key = {row[:3]: row for row in after}
    before = [_as_theirs(row, by_key.get(row[:3])) for row in before]
    found.note(OBSERVATIONS, before, after)
    found.note_newest(UPSTREAM_CALLS, *(span.rows(c, UPSTREAM_CALLS) for c in (here, there)))


def _readable(
    span: Span, connection: Connection, ids: set[str], seen: defaultdict[str, Seen]
) -> list[Kept]:
    """The observations of `ids` with their bodies; of erased ones, what stays of them."""
    rows = (Kept(*row) for row in span.rows(connection, OBSERVATIONS, bodies=True))
    kept = [row for row in rows if row.entity_id in ids]
    return [bare(row) if seen[row.entity_id].erasure else row for row in kept]


def _as_theirs(row: Kept, theirs: Kept | None) -> Kept:
    """The row with the other's body if both say the same: two compressions may differ."""
    if theirs is None or not row.body or not theirs.body or row.body == theirs.body:
        return row
    try:
        is_same = zstandard.decompress(row.body) == zstandard.decompress(theirs.body)
    except zstandard.ZstdError:
        return row
    return row._replace(body=theirs.body) if is_same else row


def _key(table: Table, row: Row) -> Row:
    return row[: len(table.key)]
