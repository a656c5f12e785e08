"""Compare two databases: every row of every table, except rolled-up hours and days.

In: a source and a target on any engine. Out: a Comparison.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import zstandard

from receiver.addresses import Location
from receiver.store import sql
from receiver.store.copying import (
    CALLS_OWN_TABLES,
    SHARED_TABLES,
    EntityState,
    IdRange,
    ObservationRow,
    is_allowed,
    rank,
    select_all,
    spans,
)
from receiver.store.engine import reading
from receiver.store.protocols import Connection
from schema.tables import (
    CALL_TABLES,
    CHAT_TABLES,
    DISCONNECTION_REASONS,
    ERASURES,
    OBSERVATIONS,
    TABLES,
    Table,
)
from schema.transcript import Row


@dataclass(slots=True)
class Comparison:
    """How many rows of each table were compared, and how many differ.

    `behind` counts entities, and rows that are not projected, that are newer in the source; `ahead`
    those that are newer in the target. Their rows are not compared.
    """

    rows: dict[str, int] = field(default_factory=lambda: {t.name: 0 for t in TABLES})
    different: dict[str, int] = field(default_factory=dict)
    behind: int = 0
    ahead: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the target has all of the source, unchanged."""
        return not self.different and not self.behind

    def note(self, table: Table, ours: Iterable[Row], theirs: Iterable[Row]) -> None:
        """Compare rows that should be equal."""
        before, after = ({_key(table, row): row for row in rows} for rows in (ours, theirs))
        self.rows[table.name] += len(before)
        count = sum(before.get(key) != after.get(key) for key in before.keys() | after.keys())
        if count:
            self.different[table.name] = self.different.get(table.name, 0) + count

    def note_newest(self, table: Table, ours: Iterable[Row], theirs: Iterable[Row]) -> None:
        """Compare rows of which the newer one wins."""
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
    """Compare everything that a copy copies, in batches of ids.

    `progress` is called with the numbers of entities done and in total. Raises NotStored and
    DatabaseAway.
    """
    found = Comparison()
    with reading(source) as ours, reading(target) as theirs:
        (total,) = ours.execute(sql.COUNT_ENTITIES).fetchone()
        for table in SHARED_TABLES:
            found.note_newest(table, *_all(table, ours, theirs))
    done = 0
    for span in spans(source, target):
        with reading(source) as ours, reading(target) as theirs:
            done += _compare_span(found, span, ours, theirs)
        progress(done, max(done, total))
    with reading(source) as ours, reading(target) as theirs:
        before, after = (set(rows) for rows in _all(DISCONNECTION_REASONS, ours, theirs))
    if found.behind or found.ahead:
        # Differing calls may have reasons that no other call has.
        common = {row[0] for row in before} & {row[0] for row in after}
        before, after = ({row for row in rows if row[0] in common} for rows in (before, after))
    found.note(DISCONNECTION_REASONS, before, after)
    return found


def _all(table: Table, *connections: Connection) -> list[list[Row]]:
    return [c.execute(select_all(table)).fetchall() for c in connections]


def _compare_span(found: Comparison, span: IdRange, source: Connection, target: Connection) -> int:
    """Compare a batch; return the number of its entities in the source."""
    ours, theirs = span.states(source), span.states(target)
    count = len(ours)
    ids = ours.keys() | theirs.keys()
    behind = {n for n in ids if theirs[n].is_behind(ours[n])}
    ahead = {n for n in ids if ours[n].is_behind(theirs[n])} - behind
    found.behind += len(behind)
    found.ahead += len(ahead)
    for table in (*CALL_TABLES, *CHAT_TABLES, ERASURES):
        rows = (span.rows(connection, table) for connection in (source, target))
        found.note(table, *([r for r in part if r[0] not in behind | ahead] for part in rows))
    same = ids - behind - ahead
    before, after = (_observations(span, c, same, ours) for c in (source, target))
    by_key = {row[:3]: row for row in after}
    before = [_with_equal_body(row, by_key.get(row[:3])) for row in before]
    found.note(OBSERVATIONS, before, after)
    for table in CALLS_OWN_TABLES:
        mine, copied = (span.rows(c, table) for c in (source, target))
        # What the target has erased or pruned is not copied.
        mine = [row for row in mine if is_allowed(table, row, theirs[row[0]].erasures)]
        found.note_newest(table, mine, copied)
    return count


def _observations(
    span: IdRange, connection: Connection, ids: set[str], states: defaultdict[str, EntityState]
) -> list[ObservationRow]:
    """The observations of `ids` with their bodies; those of erased entities without content."""
    rows = (ObservationRow(*row) for row in span.rows(connection, OBSERVATIONS, bodies=True))
    kept = [row for row in rows if row.entity_id in ids]
    return [states[row.entity_id].as_erased(row) for row in kept]


def _with_equal_body(row: ObservationRow, other: ObservationRow | None) -> ObservationRow:
    """The row with the other's body if both are the same text: their compression may differ."""
    if other is None or not row.body or not other.body or row.body == other.body:
        return row
    try:
        is_same = zstandard.decompress(row.body) == zstandard.decompress(other.body)
    except zstandard.ZstdError:
        return row
    return row._replace(body=other.body) if is_same else row


def _key(table: Table, row: Row) -> Row:
    return row[: len(table.key)]
