"""Annotations, shared links and saved views, on both engines."""

from dataclasses import replace

import pytest

from receiver.errors import NotStored
from receiver.store import reviewing
from receiver.store.erasing import apply_tombstones
from receiver.store.reviewing import Annotation, SavedView, ShareLink, annotation_id
from tests.support.erasing import SECRET, add_whole, erased, files_with, rebuilt
from tests.support.storing import add, rows

NOTE = Annotation("gone", "n1", "note", None, None, None, f"{SECRET} was rude", "jane", 5, 5)
VERDICT = Annotation("gone", "v1", "verdict", "session", 0, None, "bad", "jane", 5, 5)
TAG = Annotation("gone", "t1", "tag", None, None, f"{SECRET} tag", None, "jane", 5, 5)
LINK = ShareLink("gone", "l1", 0, "jane", 5, 100, 5)
_ALL = "SELECT annotation_id, kind, name, value, removed_at FROM annotations ORDER BY 1"


def test_annotations_survive_rebuild(store, db):
    add_whole(store)
    reviewing.write_annotations(store, [NOTE, VERDICT])
    rebuilt(store)
    assert rows(db, _ALL) == [
        ("n1", "note", None, f"{SECRET} was rude", None),
        ("v1", "verdict", None, "bad", None),
    ]


def test_later_verdict_of_an_author_replaces_it(store, db):
    add_whole(store)
    first = replace(VERDICT, annotation_id=annotation_id("verdict", "jane", "session", 0))
    reviewing.write_annotations(store, [first])
    reviewing.write_annotations(store, [replace(first, value="good", changed_at=9)])
    assert [row[3] for row in rows(db, _ALL)] == ["good"]


def test_removed_annotation_has_no_content(store, db):
    add_whole(store)
    reviewing.write_annotations(store, [NOTE, TAG])
    assert reviewing.remove_annotation(store, "gone", "n1", now_ms=8) == "note"
    assert reviewing.remove_annotation(store, "gone", "t1", now_ms=8) == "tag"
    assert reviewing.remove_annotation(store, "gone", "t1", now_ms=9) is None
    assert rows(db, _ALL) == [("n1", "note", None, None, 8), ("t1", "tag", None, None, 8)]


def test_unknown_and_erased_calls_get_none(settings, store):
    with pytest.raises(NotStored, match="no call or chat"):
        reviewing.write_annotations(store, [NOTE])
    add_whole(store)
    erased(settings, store, "gone")
    with pytest.raises(NotStored, match="was erased"):
        reviewing.write_annotations(store, [NOTE])
    with pytest.raises(NotStored, match="was erased"):
        reviewing.write_link(store, LINK)


def test_erasing_takes_annotations_and_links(settings, store, db):
    add_whole(store)
    add(store, "call_ended", "other")
    kept = replace(NOTE, entity_id="other", value="a kept note")
    reviewing.write_annotations(store, [NOTE, TAG, VERDICT])
    reviewing.write_annotations(store, [kept])
    reviewing.write_link(store, LINK)
    erased(settings, store, "gone")
    assert [row[3] for row in rows(db, _ALL)] == ["a kept note"]
    assert rows(db, "SELECT 1 FROM share_links") == []


@pytest.mark.sqlite
def test_erasing_leaves_no_byte_of_a_note(settings, database, store):
    for n in range(30):
        add_whole(store, f"call_{n:02}")
        note = replace(NOTE, entity_id=f"call_{n:02}", value=f"{SECRET} {'x' * 40 * n}")
        reviewing.write_annotations(store, [note])
        reviewing.write_annotations(store, [replace(note, value=f"Less of {SECRET}")])
        reviewing.remove_annotation(store, f"call_{n % 3:02}", "n1", now_ms=8)
    erased(settings, store, *(f"call_{n:02}" for n in range(30)))
    assert files_with(database.parent, SECRET) == set()


def test_pruning_personal_data_takes_notes_only(store, db):
    add_whole(store)
    reviewing.write_annotations(store, [NOTE, TAG, VERDICT])
    apply_tombstones(store, [("gone", "personal", 9, None, None)])
    assert rows(db, _ALL) == [
        ("n1", "note", None, None, None),
        ("t1", "tag", f"{SECRET} tag", None, None),
        ("v1", "verdict", None, "bad", None),
    ]
    with pytest.raises(NotStored, match="no notes are stored"):
        reviewing.write_annotations(store, [replace(NOTE, annotation_id="n3")])
    reviewing.write_annotations(store, [replace(VERDICT, value="good")])


def test_link_is_counted_and_revoked(store, database):
    add_whole(store)
    reviewing.write_link(store, LINK)
    reviewing.count_opening(store, LINK, now_ms=7)
    reviewing.count_opening(store, LINK, now_ms=8)
    assert reviewing.revoke_link(store, "l1", now_ms=9) == "gone"
    assert reviewing.revoke_link(store, "l1", now_ms=10) is None
    assert reviewing.links(database) == [
        replace(LINK, changed_at=9, revoked_at=9, times_opened=2, last_opened_at=8)
    ]


def test_saved_view_is_removed_without_content(store, db):
    reviewing.write_view(store, SavedView("v", "Unhappy", "sentiment=Negative", "jane", 1, 5, 5))
    assert reviewing.remove_view(store, "v", now_ms=9)
    assert not reviewing.remove_view(store, "v", now_ms=10)
    found = rows(db, "SELECT name, query, author, removed_at FROM saved_views")
    assert found == [(None, None, "jane", 9)]
