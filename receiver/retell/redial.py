"""The list of calls from a view or query of the warehouse, with the columns of a CSV list.

A query calls a number at most once a day, and all queries together respect a limit per day.
"""

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from receiver.addresses import Location
from receiver.errors import SettingsError
from receiver.retell.call_lists import Row, read_rows
from receiver.store import snapshot
from schema.sql.macros import plain

_CALLED = plain(
    "SELECT c.to_number AS to_number, count(*) AS calls FROM calls c "
    "WHERE c.direction = 'outbound' AND call_time(c) >= :since GROUP BY c.to_number"
)


def list_path(what: str, now: datetime) -> Path:
    """The name of the list, beside which its journal is: of the query and the day."""
    digest = hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return Path(f"redial-{digest}-{now:%Y-%m-%d}")


def query_rows(
    where: Location,
    what: str,
    *,
    name: str,
    run_id: str,
    defaults: Mapping[str, Any],
    timezone: str,
) -> list[Row]:
    """The rows of a view or SELECT, each number once. Raises SettingsError for a mistake in it or
    an invalid column, and what `snapshot` raises."""
    text, seen = io.StringIO(newline=""), set()
    writer = csv.writer(text)
    with snapshot(where, timezone=timezone, private=False) as moment:
        result = moment.read(what, since=None, typed=False)
        if "to_number" not in result.names:
            raise SettingsError("the query has no column to_number")
        writer.writerow(result.names)
        at = result.names.index("to_number")
        for row in result.rows:
            if row[at] is not None and row[at] not in seen:
                seen.add(row[at])
                writer.writerow("" if value is None else value for value in row)
    return read_rows(text.getvalue(), name=name, run_id=run_id, defaults=defaults)


def within_cap(
    where: Location, rows: Sequence[Row], per_day: int, now: datetime
) -> tuple[list[Row], int]:
    """The rows whose number was called less than `per_day` times since midnight, by the stored
    calls, and the number of others."""
    midnight_ms = round(datetime.combine(now, time.min, now.tzinfo).timestamp() * 1000)
    query = _CALLED.replace(":since", str(midnight_ms))
    with snapshot(where, timezone=None, private=False) as moment:
        called = {row[0]: row[1] for row in moment.read(query, since=None, typed=False).rows}
    left = [row for row in rows if called.get(row.body.get("to_number"), 0) < per_day]
    return left, len(rows) - len(left)


def today(timezone: str, now_ms: int) -> datetime:
    """Now in the time zone."""
    return datetime.fromtimestamp(now_ms / 1000, ZoneInfo(timezone))
