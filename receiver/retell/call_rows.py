"""A CSV file -> rows to call, each with a key of its own. Pure."""

import csv
import difflib
import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from receiver.errors import SettingsError, UnusableCall
from receiver.retell.call_body import check, merged

COLUMNS = (
    "to_number",
    "from_number",
    "override_agent_id",
    "override_agent_version",
    "ignore_e164_validation",
    "honor_internal_dnc",
    "idempotency_key",
)
# Columns of the form prefix.NAME -> the object that NAME belongs to.
PREFIXES = {
    "metadata": "metadata",
    "var": "retell_llm_dynamic_variables",
    "sip_header": "custom_sip_headers",
}
# Which row a call was placed for: stands in its metadata, so that a call whose answer was lost is
# found again.
MARKER = "callhouse_row"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the file as the body to send, or why it is not sent (`problem`)."""

    line: int
    key: str
    body: dict[str, Any]
    problem: str | None

    @property
    def marker(self) -> str:
        """What the metadata of this row's call says."""
        text: str = self.body["metadata"][MARKER]
        return text


def read_rows(text: str, *, name: str, run_id: str, defaults: Mapping[str, Any]) -> list[Row]:
    """The rows of a file named `name`, over what `defaults` says for all of them.

    A row is who is called: its key is its idempotency_key, else made from `name` and to_number, so
    that a correction elsewhere in the row calls nobody again. `run_id` tells this file's calls from
    those of an earlier file with the same name. Raises SettingsError for an unusable header.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    rows: list[Row] = []
    lines: dict[str, int] = {}
    try:
        header = [column.strip() for column in next(reader, [])]
        _check_header(header)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = _row(header, cells, reader.line_num, name, run_id, defaults)
                first = lines.setdefault(row.key, row.line)
                rows.append(row if first == row.line else _again(row, first))
    except csv.Error:
        raise SettingsError(f"line {reader.line_num + 1} is not CSV") from None
    return rows


def _delimiter(text: str) -> str:
    """Spreadsheets of half the world write semicolons."""
    first = text.split("\n", 1)[0]
    return ";" if ";" in first and "," not in first else ","


def _check_header(header: list[str]) -> None:
    known = [*COLUMNS, *(f"{prefix}.NAME" for prefix in PREFIXES)]
    if "to_number" not in header:
        raise SettingsError("the first line has no to_number", hint=f"Columns: {', '.join(known)}.")
    for column in header:
        prefix, dot, rest = column.partition(".")
        if column not in COLUMNS and not (prefix in PREFIXES and dot and rest):
            near = difflib.get_close_matches(column, known, n=1, cutoff=0)[0]
            raise SettingsError(f"column {column!r} is not known", hint=f"Did you mean {near}?")
        if header.count(column) > 1:
            raise SettingsError(f"column {column!r} stands twice")


def _row(
    header: list[str],
    cells: list[str],
    line: int,
    name: str,
    run_id: str,
    defaults: Mapping[str, Any],
) -> Row:
    problem = "more cells than the first line has" if len(cells) > len(header) else None
    said: dict[str, Any] = {}
    for column, cell in zip(header, cells, strict=False):
        if cell := cell.strip():
            prefix, _, rest = column.partition(".")
            if prefix in PREFIXES:
                said.setdefault(PREFIXES[prefix], {})[rest] = cell
            else:
                said[column] = _value(column, cell)
    key = said.get("idempotency_key") or _key(name, said.get("to_number", ""))
    body = merged(defaults, {**said, "idempotency_key": key})
    try:
        check(body)
        body = merged(body, {"metadata": {MARKER: f"{run_id}-{_digest(key)[:16]}"}})
        check(body)
    except UnusableCall as error:
        problem = problem or str(error)
    return Row(line, key, body, problem)


def _again(row: Row, first: int) -> Row:
    what = (
        f"the same number as in line {first}; for two calls give each row an idempotency_key"
        if row.key.startswith(_OWN)
        else f"the same idempotency_key as in line {first}"
    )
    return Row(row.line, row.key, row.body, row.problem or what)


def _value(column: str, cell: str) -> Any:
    if column in ("ignore_e164_validation", "honor_internal_dnc"):
        return {"true": True, "1": True, "false": False, "0": False}.get(cell.lower(), cell)
    if column == "override_agent_version" and cell.isascii() and cell.isdigit():
        return int(cell)
    return cell


_OWN = "callhouse-"


def _key(name: str, to_number: str) -> str:
    return _OWN + _digest(f"{name}\n{to_number}")[:32]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
