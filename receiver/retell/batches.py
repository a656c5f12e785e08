"""Batches: the body of create-batch-call from the CSV file of a list of calls, sent once.

Source: https://docs.retellai.com/api-references/create-batch-call
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from receiver.clock import WEEKDAYS, parse_hours
from receiver.errors import ListStopped, RetellError, SettingsError
from receiver.retell.call_lists import Row, find_call, read_rows, text_of
from receiver.retell.client import Answer, Retell
from receiver.retell.journal import SENT_IN_A_BATCH, Journal

# Fields of a call that a task of a batch has too.
_TASK = (
    "to_number",
    "override_agent_id",
    "override_agent_version",
    "metadata",
    "retell_llm_dynamic_variables",
    "custom_sip_headers",
    "ignore_e164_validation",
)


@dataclass(frozen=True, slots=True)
class Batch:
    """The body of a batch; `rows` are its tasks, `left_out` the number of rows that the journal has
    already."""

    body: dict[str, Any]
    rows: list[Row]
    left_out: int


def resolve(path: Path, from_number: str, journal: Journal, retell: Retell, *, again: bool) -> None:
    """Find out whether a batch with an unknown outcome was placed.

    With `again` it was not. Raises ListStopped if Retell lists none of its calls, and RetellError.
    """
    rows = _rows(path, {"from_number": from_number}, journal.run_id)
    unknown = [row for row in rows if journal.entry(row.key) == SENT_IN_A_BATCH]
    if not unknown:
        return
    is_placed = any(find_call(retell, row) for row in unknown)
    if not is_placed and not again:
        raise ListStopped(
            f"{len(unknown):,} rows were sent, and Retell lists none of their calls",
            hint="Look for the batch in Retell's dashboard. If it is not there, add --resend.",
        )
    journal.note_batch([row.key for row in unknown], "placed" if is_placed else "refused")


def place(batch: Batch, journal: Journal, retell: Retell) -> Answer:
    """Send a batch, once. Raises RetellError."""
    keys = [row.key for row in batch.rows]
    journal.note_batch(keys, "sent")
    try:
        answer = retell.create_batch_call(batch.body)
    except RetellError as error:
        if not error.may_have_happened:
            journal.note_batch(keys, "refused")
        raise
    journal.note_batch(keys, "placed")
    return answer


def _rows(path: Path, defaults: dict[str, Any], run_id: str) -> list[Row]:
    return read_rows(text_of(path), name=path.name, run_id=run_id, defaults=defaults)


def batch_of(
    path: Path,
    from_number: str,
    override_agent_id: str | None,
    journal: Journal,
    *,
    name: str | None,
    at: datetime | None,
    windows: Sequence[tuple[int, int]],
    days: Sequence[str],
    timezone: str,
) -> Batch:
    """A batch of the rows that were not sent before. Raises SettingsError, also for a row that
    cannot be called."""
    if days and not windows:
        raise SettingsError("--day needs --window")
    for day in days:
        if day not in WEEKDAYS:
            raise SettingsError("--day is not a weekday", hint=f"One of {', '.join(WEEKDAYS)}.")
    defaults = {"from_number": from_number} | (
        {"override_agent_id": override_agent_id} if override_agent_id else {}
    )
    rows = _rows(path, defaults, journal.run_id)
    if not rows:
        raise SettingsError("the list has no rows")
    for row in rows:
        problem = row.problem
        if row.body["from_number"] != from_number:
            problem = problem or "a batch has one from_number"
        if "honor_internal_dnc" in row.body:
            problem = problem or "Retell's batches have no honor_internal_dnc"
        if problem:
            raise SettingsError(f"line {row.line}: {problem}")
    left = [row for row in rows if (e := journal.entry(row.key)) is None or e.state == "refused"]
    body: dict[str, Any] = {
        "from_number": from_number,
        "tasks": [{n: row.body[n] for n in _TASK if n in row.body} for row in left],
        "name": name or path.name,
    }
    if at is not None:
        began = at.replace(tzinfo=ZoneInfo(timezone))
        body["trigger_timestamp"] = round(began.timestamp() * 1000)
    if windows:
        body["call_time_window"] = {
            "windows": [{"start": start, "end": end} for start, end in windows],
            "timezone": timezone,
        } | ({"day": list(days)} if days else {})
    return Batch(body, left, len(rows) - len(left))


def minutes(text: str) -> tuple[int, int]:
    """A window such as 9:00-17:30 in minutes since midnight. Raises SettingsError."""
    hours = parse_hours(text)
    if hours and hours[0] < hours[1]:
        return hours
    raise SettingsError(
        "--window is not a time window", hint="Write it as 9:00-17:30, within a day."
    )
