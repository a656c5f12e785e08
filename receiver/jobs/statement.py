"""A month's statement as sentences and as CSV, for the command and the page."""

import io
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from receiver.transfer.formats import csv_row_writer

if TYPE_CHECKING:
    from receiver.store.statements import Month
    from schema.billing import Line


def dollars(cents: int | float) -> str:
    """Cents as dollars, with thousands separators."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) / 100:,.2f}"


def line_name(grouping: str | None, line: "Line") -> str:
    """The label of a line's group."""
    return line.name or (f"no {grouping.removeprefix('metadata.')}" if grouping else "all")


def notes(found: "Month", zone: ZoneInfo) -> list[str]:
    """Whether the month is closed, its forecast, and which calls are missing."""
    of, found_notes = found.statement, list[str]()
    if of.closed_at is not None:
        day = datetime.fromtimestamp(of.closed_at / 1000, zone).date()
        found_notes.append(f"Closed on {day}.")
    elif found.unsettled:
        what = "1 call or chat" if found.unsettled == 1 else f"{found.unsettled:,} calls and chats"
        found_notes.append(f"Not closed: the cost of {what} may still change.")
    else:
        found_notes.append(
            "Not closed: `callhouse statement` closes it."
            if found.is_over
            else "Not closed: the month is not over."
        )
    if found.forecast:
        low, expected, high = (
            dollars(v) for v in (found.forecast.low, found.forecast.expected, found.forecast.high)
        )
        found_notes.append(f"Forecast for the month: {expected} (80 % interval: {low} to {high}).")
    if found.missing:
        calls = f"{found.missing:,} call{'s' * (found.missing != 1)}"
        found_notes.append(f"Retell lists {calls} that are not stored: run `callhouse sync`.")
    return found_notes


def as_csv(found: "Month") -> str:
    """A row for each line and the total; amounts in dollars, every family."""
    of, file = found.statement, io.StringIO()
    write = csv_row_writer(file)
    write(["month", "group", "name", "calls", "chats", "minutes", *of.families, "cost", "price"])
    for line in [*of.lines, of.total]:
        amounts = [line.families.get(family, 0) for family in of.families]
        write(
            [
                of.month,
                line.key,
                line.name,
                line.calls,
                line.chats,
                line.minutes,
                *(f"{amount / 100:.2f}" for amount in (*amounts, line.total, line.price)),
            ]
        )
    return file.getvalue()


def explanations(found: "Month", *, is_equal: bool) -> list[str]:
    """Possible explanations of a difference between the calls and an invoice."""
    if is_equal:
        return ["Every product agrees."]
    counts = (
        (found.not_final, "whose cost is not final"),
        (found.transferred, "with a transferred leg, which is billed later"),
        (found.gone, "that Retell has deleted"),
        (found.missing, "that Retell lists and that are not stored: run `callhouse sync`"),
    )
    found_notes = [f"{count:,} call{'s' * (count != 1)} {what}" for count, what in counts if count]
    if chats := found.statement.total.chats:
        found_notes.append(f"{chats:,} chat{'s' * (chats != 1)}, which are counted here")
    found_notes.append("Numbers and subscriptions are billed without a call.")
    return ["Possible reasons for differences:", *(f"- {note}" for note in found_notes)]
