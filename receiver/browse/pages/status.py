"""/-/status: the database, keys, jobs, coverage and backup, as `callhouse status` prints them."""

from functools import partial
from typing import TYPE_CHECKING

from datasette import Response

from receiver import clock
from receiver.browse.pages import message_page, require_unlimited_reader, run_in_thread
from receiver.errors import CallhouseError
from receiver.jobs.status import ago, at, read_status, size

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette


async def status_page(datasette: "Datasette", request: "Request") -> Response:
    """`/-/status`. Raises Forbidden."""
    reader = await require_unlimited_reader(datasette, request)
    now_ms = clock.now_ms()
    settings = datasette.callhouse_settings
    try:
        found = await run_in_thread(reader, partial(read_status, settings, now_ms=now_ms))
    except CallhouseError as error:
        # A copy without raw bodies, for example.
        return await message_page(datasette, request, 503, "Status", f"{error}. {error.hint}")
    context = {
        "status": found,
        "ago": lambda at_ms: ago(at_ms, now_ms),
        "at": lambda at_ms: at(at_ms, settings.timezone),
        "size": size,
    }
    page = await datasette.render_template("status.html", context, request=request)
    return Response.html(page)
