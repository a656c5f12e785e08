"""State of the current request, which Datasette does not pass to the functions that need it."""

from contextvars import ContextVar
from typing import Any

# Its login, for limits per login, and whether the response is CSV.
login_of_request: ContextVar[str] = ContextVar("login_of_request", default="")
is_csv_request: ContextVar[bool] = ContextVar("is_csv_request", default=False)
# The table that its page shows.
table_of_page: ContextVar[str] = ContextVar("table_of_page", default="")
# Schemas that it has read, by database.
schema_of_request: ContextVar[dict[str, Any]] = ContextVar("schema_of_request")
# Whether its current query is SQL of callhouse and not of a reader.
is_own_query: ContextVar[bool] = ContextVar("is_own_query", default=False)
# The nonce that the Content-Security-Policy of its response allows.
csp_nonce: ContextVar[str] = ContextVar("csp_nonce", default="")
# Characters of JSON that its page may still fold.
json_left: ContextVar[list[int] | None] = ContextVar("json_left", default=None)
MAX_FOLDED_CHARACTERS = 2_000_000


def may_fold(text: str) -> bool:
    """Whether the page may fold this cell: not if it has folded much JSON already, because nobody
    else is served meanwhile."""
    left = json_left.get()
    if left is None or text[:1] not in ("{", "["):
        return True
    left[0] -= len(text)
    return left[0] >= 0
