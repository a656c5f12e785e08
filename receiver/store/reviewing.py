"""Annotations, shared links and saved views.

In: rows of the tables of the same names. Out: the rows, committed. A removed one stays as a row
without content, so that copies and mirrors remove theirs. Times are arguments, so that a row
written to a server and to its mirror is the same on both.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from receiver.addresses import Location
from receiver.errors import NotStored
from receiver.grading_settings import Question
from receiver.store import sql
from receiver.store.copying import IS_MIRROR, select_all
from receiver.store.engine import AnyStore, reading
from receiver.store.ingest import scopes_of
from receiver.store.protocols import Connection
from schema import retention
from schema.tables import ANNOTATIONS, SAVED_VIEWS, SHARE_LINKS

VERDICTS = ("good", "bad", "unsure")
# Text that may repeat a caller's words. Tags are labels, like names of agents, and not among them.
_WORDS = frozenset({"note", "score"})

_PUT_ANNOTATION = sql.upsert(ANNOTATIONS)
_PUT_LINK = sql.upsert(SHARE_LINKS)
_PUT_VIEW = sql.upsert(SAVED_VIEWS)
_IS_STORED = "SELECT 1 FROM calls WHERE call_id = ? UNION ALL SELECT 1 FROM chats WHERE chat_id = ?"
_REMOVE_ANNOTATION = (
    "UPDATE annotations SET name = NULL, value = NULL, changed_at = ?, removed_at = ? "
    "WHERE entity_id = ? AND annotation_id = ? AND removed_at IS NULL RETURNING kind"
)
_REMOVE_VIEW = (
    "UPDATE saved_views SET name = NULL, query = NULL, changed_at = ?, removed_at = ? "
    "WHERE view_id = ? AND removed_at IS NULL RETURNING 1"
)
_REVOKE = (
    "UPDATE share_links SET revoked_at = ?, changed_at = ? "
    "WHERE link_id = ? AND revoked_at IS NULL RETURNING call_id"
)
_COUNT_OPENING = (
    "UPDATE share_links SET times_opened = coalesce(times_opened, 0) + 1, last_opened_at = ?, "
    "changed_at = ? WHERE call_id = ? AND link_id = ? RETURNING 1"
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A row of annotations, not removed."""

    entity_id: str
    annotation_id: str
    kind: str
    track: str | None
    position: int | None
    name: str | None
    value: str | None
    author: str
    created_at: int
    changed_at: int
    removed_at: int | None = None


@dataclass(frozen=True, slots=True)
class ShareLink:
    """A row of share_links."""

    call_id: str
    link_id: str
    is_masked: int
    author: str
    created_at: int
    expires_at: int
    changed_at: int
    revoked_at: int | None = None
    times_opened: int = 0
    last_opened_at: int | None = None


@dataclass(frozen=True, slots=True)
class SavedView:
    """A row of saved_views, not removed."""

    view_id: str
    name: str
    query: str
    author: str
    is_shared: int
    created_at: int
    changed_at: int
    removed_at: int | None = None


def annotation_id(kind: str, *parts: object) -> str:
    """The id of an annotation that is unique for these parts, such as an author's verdict on a
    turn. A later one replaces it."""
    text = "\0".join("" if part is None else str(part) for part in (kind, *parts))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


def answer_id(kind: str, author: str, question: Question) -> str:
    """The id of an author's score, note or usage for the current version of a question; the same
    for every call."""
    return annotation_id(kind, author, question.name, question.version)


def write_annotations(store: AnyStore, annotations: Sequence[Annotation]) -> None:
    """Write annotations of one call or chat, in one transaction.

    Raises NotStored for an unknown or erased one, and for text about one whose personal data was
    removed; StoreUnavailable.
    """
    entity_id = annotations[0].entity_id

    def unit(connection: Connection) -> None:
        scopes = _require_stored(store, connection, entity_id)
        if retention.PERSONAL in scopes and any(a.kind in _WORDS for a in annotations):
            raise NotStored("personal data of this call was removed, so no notes are stored")
        connection.executemany(_PUT_ANNOTATION, [astuple(each) for each in annotations])

    store.run(unit)


def remove_annotation(
    store: AnyStore, entity_id: str, annotation_id: str, *, now_ms: int
) -> str | None:
    """Remove the content of an annotation; return its kind, None if there is none.

    Raises StoreUnavailable.
    """
    bound = (now_ms, now_ms, entity_id, annotation_id)
    found = store.run(partial(_run, _REMOVE_ANNOTATION, bound))
    return str(found[0][0]) if found else None


def write_link(store: AnyStore, link: ShareLink) -> None:
    """Write a new link. Raises NotStored for an unknown or erased call, StoreUnavailable."""

    def unit(connection: Connection) -> None:
        _require_stored(store, connection, link.call_id)
        connection.execute(_PUT_LINK, astuple(link))

    store.run(unit)


def revoke_link(store: AnyStore, link_id: str, *, now_ms: int) -> str | None:
    """Revoke a link; return its call, None if no such link is valid. Raises StoreUnavailable."""
    found = store.run(partial(_run, _REVOKE, (now_ms, now_ms, link_id)))
    return str(found[0][0]) if found else None


def count_opening(store: AnyStore, link: ShareLink, *, now_ms: int) -> None:
    """Increment the number of times a link was opened. Raises StoreUnavailable."""
    bound = (now_ms, now_ms, link.call_id, link.link_id)
    store.run(partial(_run, _COUNT_OPENING, bound))


def links(where: Location) -> list[ShareLink]:
    """All links, the oldest first. Raises NotStored without a database."""
    with reading(where) as connection:
        found = connection.execute(select_all(SHARE_LINKS)).fetchall()
    return sorted((ShareLink(*row) for row in found), key=lambda link: link.created_at)


def write_view(store: AnyStore, view: SavedView) -> None:
    """Write a saved view. Raises StoreUnavailable."""
    store.run(lambda connection: connection.execute(_PUT_VIEW, astuple(view)) and None)


def remove_view(store: AnyStore, view_id: str, *, now_ms: int) -> bool:
    """Remove the content of a saved view; False if there is none. Raises StoreUnavailable."""
    return bool(store.run(partial(_run, _REMOVE_VIEW, (now_ms, now_ms, view_id))))


def is_mirror(path: Path) -> bool:
    """Whether only mirrors may write the file. Raises NotStored without one."""
    with reading(path) as connection:
        return bool(connection.execute(IS_MIRROR).fetchone()[0])


def _require_stored(store: AnyStore, connection: Connection, entity_id: str) -> frozenset[str]:
    """Lock a call or chat and return the scopes of its tombstones. Raises NotStored."""
    store.lock(connection, [entity_id])
    scopes = scopes_of(connection, entity_id)
    if retention.ALL in scopes:
        raise NotStored("this call was erased")
    if connection.execute(_IS_STORED, (entity_id, entity_id)).fetchone() is None:
        raise NotStored("no call or chat with this id is stored", hint="Check the id.")
    return scopes


def _run(statement: str, bound: Sequence[Any], connection: Connection) -> list[Any]:
    return connection.execute(statement, bound).fetchall()
