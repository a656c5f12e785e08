"""The answer to a request that failed in a way that Datasette does not expect."""

import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from datasette import Response

from receiver.browse.datasette_compat import QueryInterrupted

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette

_log = logging.getLogger("callhouse.browse")
_OURS = Path(__file__).parents[1]
# They run what others ask.
_RUNNERS = ("datasette_compat.py", "pool.py")


async def failed(datasette: "Datasette", request: "Request", exception: Exception) -> Response:
    """503 for a query that took too long, 500 for a fault of ours. Else 400: Datasette fails on
    parameters that it cannot read."""
    frames = traceback.extract_tb(exception.__traceback__)
    is_ours = any(
        Path(frame.filename).is_relative_to(_OURS) and not frame.filename.endswith(_RUNNERS)
        for frame in frames
    )
    if isinstance(exception, QueryInterrupted):
        status, title = 503, "This takes too long"
        error = "Try again in a moment, or narrow it down."
    elif is_ours:
        status, title = 500, "This page failed"
        error = "See the log for where it failed."
    else:
        status, title = 400, "This address cannot be read"
        error = "One of its parameters has a value that does not belong there."
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    _log.warning("%s: %s at %s", status, type(exception).__name__, where)
    context = {"ok": False, "error": error, "status": status, "title": title}
    if request.path.endswith(".json"):
        return Response.json(context, status=status)
    page = await datasette.render_template("error.html", context, request=request)
    return Response.html(page, status)
