"""/-/questions: the prepared questions, each with its parameters filled in."""

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from datasette import Response

from receiver.browse.pages import require_reader
from schema.questions import questions

if TYPE_CHECKING:
    from datasette import Request
    from datasette.app import Datasette


async def questions_page(datasette: "Datasette", request: "Request") -> Response:
    """`/-/questions`. Raises Forbidden."""
    reader = await require_reader(datasette, request)
    found = []
    for name, question in questions().items():
        values = urlencode({p.name: p.value for p in question.parameters})
        url = datasette.urls.query(reader.database, name)
        found.append((question, f"{url}?{values}" if values else url))
    context = {"questions": found}
    page = await datasette.render_template("questions.html", context, request=request)
    return Response.html(page)
