"""/-/retention: what each retention setting would remove now, and what was removed."""

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from datasette import Response

from receiver import clock
from receiver.browse.pages import require_unlimited_reader, run_in_thread
from receiver.config import Settings
from receiver.jobs.prune import Due, preview
from receiver.jobs.status import at, size
from receiver.store import open_store
from receiver.store.erasing import Receipt, newest_receipts
from schema.retention import KEEP

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

# How long each setting is counted: a page of a million calls is quick, too.
_COUNT_SECONDS = 0.06
_RECEIPTS = 20


async def retention_page(datasette: "Datasette", request: "Request") -> Response:
    """`/-/retention`. Raises Forbidden, StoreUnavailable."""
    reader = await require_unlimited_reader(datasette, request)
    settings = datasette.callhouse_settings
    due, receipts = await run_in_thread(reader, partial(_read, settings))
    context = {
        "due": due,
        "receipts": receipts,
        "removes": dict(KEEP.values()),
        "at": lambda at_ms: at(at_ms, settings.timezone),
        "size": size,
    }
    page = await datasette.render_template("retention.html", context, request=request)
    return Response.html(page)


def _read(settings: Settings) -> tuple[list[Due], list[Receipt]]:
    with closing(open_store(settings.database)) as store:
        due = preview(store, settings, now_ms=clock.now_ms(), seconds=_COUNT_SECONDS)
        return due, newest_receipts(store, count=_RECEIPTS)
