"""Reviews on a mirror: written to the server, and shown at once."""

import asyncio
from contextlib import closing
from dataclasses import replace

import pytest

from receiver import config
from receiver.store.connection import connect
from receiver.store.reviewing import links
from receiver.transfer import mirror
from tests.support.browsing import browsing, simple
from tests.support.engines import url_of
from tests.support.postgres import looking
from tests.support.posting import posted
from tests.support.storing import in_store, rows, stored
from tests.support.webhooks import KEY, NOW_MS

ALL = "SELECT * FROM annotations ORDER BY annotation_id"


def found(path):
    with closing(connect(path, busy_timeout_ms=5000)) as db:
        return rows(db, ALL)


def look(source, target, *, passes):
    """Mirror all ids, some times."""
    with closing(mirror(source, target, timezone="UTC", now_ms=lambda: NOW_MS)) as steps:
        while passes:
            passes -= next(steps).is_last


@pytest.fixture
def mirrored(pg, tmp_path):
    """Settings of a server with a call, and its mirror."""
    in_store(pg, lambda store: stored(store, simple("call_1", ("user", "Hello."))))
    look(pg, tmp_path / "mirror.db", passes=1)
    settings = config.load({"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url_of(pg)})
    return settings, tmp_path / "mirror.db"


def review(settings, written):
    with browsing(settings, written=written) as served:
        return posted(served, "admin", "/-/review", entity_id="call_1", note="Hm.", verdict="bad")


def test_review_is_on_server_and_mirror_at_once(mirrored, pg):
    settings, path = mirrored
    answer = review(replace(settings, database=path), pg)
    assert answer.status_code == 302
    with looking(pg) as server:
        there = rows(server, ALL)
    assert [row[2] for row in there] in (["note", "verdict"], ["verdict", "note"])
    assert found(path) == there
    look(pg, path, passes=2)
    assert found(path) == there


def test_opened_link_is_counted_on_the_server(mirrored, pg):
    settings, path = mirrored
    with browsing(replace(settings, database=path), written=pg) as served:
        posted(served, "admin", "/-/share", entity_id="call_1", days="7")
        [link] = links(pg)
        page = asyncio.run(served.client.get(served.callhouse_tokens.path(link)))
    assert "Hello." in page.text
    assert [link.times_opened for link in links(pg)] == [1]
    assert links(path) == links(pg)


def test_mirror_without_its_server_is_read_only(mirrored):
    settings, path = mirrored
    answer = review(replace(settings, database=path), None)
    assert answer.status_code == 400
    assert "This file is a mirror" in answer.text
    assert found(path) == []
