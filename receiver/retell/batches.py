"""The body of create-batch-call, from the CSV file of a list of calls.

Source: https://docs.retellai.com/api-references/create-batch-call
"""

import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from receiver.errors import SettingsError
from receiver.retell.call_lists import read_rows, text_of

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
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WINDOW = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")


def batch_of(
    path: Path,
    from_number: str,
    override_agent_id: str | None,
    *,
    name: str | None,
    at: datetime | None,
    windows: Sequence[tuple[int, int]],
    days: Sequence[str],
    timezone: str,
) -> dict[str, Any]:
    """The body of a batch. Raises SettingsError, also for a row that cannot be called."""
    if days and not windows:
        raise SettingsError("--day needs --window")
    for day in days:
        if day not in _DAYS:
            raise SettingsError("--day is not a weekday", hint=f"One of {', '.join(_DAYS)}.")
    defaults = {"from_number": from_number} | (
        {"override_agent_id": override_agent_id} if override_agent_id else {}
    )
    rows = read_rows(text_of(path), name=path.name, run_id=secrets.token_hex(8), defaults=defaults)
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
    body: dict[str, Any] = {
        "from_number": from_number,
        "tasks": [{n: row.body[n] for n in _TASK if n in row.body} for row in rows],
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
    return body


def minutes(text: str) -> tuple[int, int]:
    """A window such as 9:00-17:30 in minutes since midnight. Raises SettingsError."""
    match = _WINDOW.fullmatch(text)
    if match:
        h1, m1, h2, m2 = (int(part) for part in match.groups())
        start, end = 60 * h1 + m1, 60 * h2 + m2
        if m1 < 60 and m2 < 60 and start < end <= 1440:
            return start, end
    raise SettingsError(
        "--window is not a time window", hint="Write it as 9:00-17:30, within a day."
    )
