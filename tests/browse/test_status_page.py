"""/-/status: how the warehouse is, for a reader."""

import re

import pytest

from receiver import config
from receiver.clock import now_ms
from receiver.store.connection import COPY_ID
from receiver.store.jobs import JobRow, claim, finish
from receiver.webhook.signature import key_id
from tests.support.browsing import visiting
from tests.support.storing import add
from tests.support.webhooks import KEY

pytestmark = pytest.mark.sqlite


@pytest.fixture
def get(db_path):
    environ = {"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": f"sqlite:///{db_path}"}
    with visiting(config.load(environ)) as get:
        yield get


def test_page_needs_a_login(get):
    assert get("/-/status", actor=False).status_code == 302


def test_page_of_an_empty_database(get):
    page = get("/-/status")
    assert page.status_code == 200
    assert "No problem is known." in page.text
    assert "not compared" in page.text


def test_page_of_a_copy_names_the_reason(get, db):
    db.execute(f"PRAGMA application_id = {COPY_ID}")
    page = get("/-/status")
    assert page.status_code == 503
    assert "copy without raw bodies" in page.text


def test_page_shows_jobs_keys_and_problems(get, store, db):
    now = now_ms()
    add(store, "call_ended", "c", received=now - 125_000, at=now, call_status="ended")
    db.execute("UPDATE observations SET key_id = ?", (key_id(KEY),))
    claim(store, JobRow("sync"), owner="worker", now_ms=now - 60_000, lease_ms=60_000)
    problem = "no connection to <Retell>"
    finish(
        store,
        JobRow("sync", now - 60_000, now, "failed", problem, 3, now + 3_660_000, "worker"),
    )
    page = get("/-/status").text
    assert "A job fails: sync, 3 times: no connection to &lt;Retell&gt;" in page
    assert '<span class="pill bad">Failing</span>' in page
    assert "2 minutes ago" in page
    assert "in 1 hour" in page
    assert f"<code>{key_id(KEY)}</code>" in page
    assert "RETELL_API_KEY" in page
    assert KEY not in page
    # An attribute with markup in it would end early.
    assert not re.search(r'title="[^"]*[<>]', page)
    assert "Not run yet" in page
    assert "/-/status" in get("/").text
