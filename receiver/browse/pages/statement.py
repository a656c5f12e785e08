"""/-/statement: what a month cost, as `callhouse statement` prints it, and an invoice beside it."""

import re
from dataclasses import asdict, dataclass, fields
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from datasette import Response

from receiver import clock
from receiver.browse.formatting import local_day
from receiver.browse.pages import require_unlimited_reader, run_in_thread, timezone
from receiver.jobs.statement import as_csv, dollars, explanations, line_name, notes
from receiver.store.statements import METADATA, Month, read_month
from schema import billing

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# Months in the list.
_MONTHS = 24
# Rollups have no values of metadata, so these lines need a look at every call and chat: half a
# second for so many calls.
_MAX_BY_METADATA = 100_000
_GROUPINGS = {"": "No groups", "account": "Account", "agent": "Agent"}
_MARKUP = re.compile(r"[0-9]{1,3}(\.[0-9]{1,4})?")


@dataclass(frozen=True, slots=True)
class StatementRequest:
    """The parameters of a request."""

    month: str
    # Account or agent, unless there is a name of metadata.
    by: str = ""
    name: str = ""
    markup: str = ""

    @property
    def grouping(self) -> str | None:
        """The grouping of the lines."""
        return METADATA + self.name if self.name else self.by or None

    @property
    def query(self) -> str:
        """The query string."""
        return urlencode({name: value for name, value in asdict(self).items() if value})


async def statement_page(datasette: "Datasette", request: "Request") -> Response:
    """`/-/statement?month=YYYY-MM&by=agent&markup=20`; with `csv`, a file. A posted invoice is
    compared. It does not close a month. Raises Forbidden."""
    reader = await require_unlimited_reader(datasette, request)
    settings, now_ms = datasette.callhouse_settings, clock.now_ms()
    zone = timezone(datasette)
    today = local_day(now_ms, zone)
    posted = await request.post_vars() if request.method == "POST" else {}
    values = {
        f.name: posted.get(f.name) or request.args.get(f.name) or ""
        for f in fields(StatementRequest)
    }
    problem = None
    try:
        requested = _parse_request(values, today, is_masked=reader.is_masked)
    except ValueError as error:
        requested, problem = StatementRequest(f"{today:%Y-%m}"), str(error).capitalize()
    read = partial(
        read_month,
        settings.database,
        requested.month,
        timezone=settings.timezone,
        now_ms=now_ms,
        markup=Decimal(requested.markup or 0) / 100,
        close=False,
    )
    grouping = None if requested.name else requested.by or None
    found = await run_in_thread(reader, partial(read, grouping=grouping))
    total = found.statement.total
    is_large = total.calls + total.chats > _MAX_BY_METADATA
    is_postponed = is_large and not {"csv", "compute"} & {*request.args}
    if requested.name and not is_postponed:
        found = await run_in_thread(reader, partial(read, grouping=requested.grouping))
    if "csv" in request.args:
        name = f"statement-{requested.month}.csv"
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(as_csv(found), headers=headers, content_type="text/csv; charset=utf-8")
    context = {
        "found": found,
        "of": found.statement,
        "requested": requested,
        "problem": problem,
        "is_postponed": bool(requested.name) and is_postponed,
        "month_name": f"{billing.month_days(requested.month)[0]:%B %Y}",
        "months": _months(today, requested.month),
        "groupings": _GROUPINGS,
        "name": partial(line_name, requested.grouping),
        "notes": notes(found, zone),
        "cents": dollars,
        "timezone": settings.timezone,
        "invoice": posted.get("invoice", ""),
        **(_compared(found, posted["invoice"]) if posted.get("invoice") else {}),
    }
    page = await datasette.render_template("statement.html", context, request=request)
    return Response.html(page)


def _parse_request(values: dict[str, str], today: date, *, is_masked: bool) -> StatementRequest:
    """Parse the request. Raises ValueError for invalid parameters."""
    month, by, name = values["month"] or f"{today:%Y-%m}", values["by"], values["name"]
    if by.startswith(METADATA):
        # In the format of the command.
        by, name = "", name or by.removeprefix(METADATA)
    try:
        billing.month_days(month)
    except ValueError:
        raise ValueError("a month is written as 2026-10") from None
    if name and is_masked:
        raise ValueError("your role sees no values of metadata")
    if not name and by not in _GROUPINGS:
        raise ValueError("a statement is by account, agent or a name of the metadata")
    if values["markup"] and not _MARKUP.fullmatch(values["markup"]):
        raise ValueError("a markup is a percentage such as 20")
    return StatementRequest(month, "" if name else by, name, values["markup"])


def _months(today: date, requested: str) -> list[str]:
    """The newest months, and the one that is shown."""
    found, day = {requested}, today.replace(day=1)
    for _ in range(_MONTHS):
        found.add(f"{day:%Y-%m}")
        day = (day - timedelta(days=1)).replace(day=1)
    return sorted(found, reverse=True)


def _compared(found: Month, invoice: str) -> dict[str, object]:
    try:
        lines = billing.reconcile(found.products, billing.read_invoice(invoice))
    except ValueError as error:
        return {"invoice_problem": f"The invoice cannot be read: {error}."}
    is_equal = all(line.verdict == "agrees" for line in lines)
    first, *rest = explanations(found, is_equal=is_equal)
    return {"compared": lines, "verdict": first, "reasons": [r.removeprefix("- ") for r in rest]}
