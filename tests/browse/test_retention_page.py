"""/-/retention: what retention would remove, for a reader."""

import pytest

from receiver import config
from receiver.browse.pages import retention
from tests.support.browsing import visiting
from tests.support.erasing import SECRET, add_whole, erased

pytestmark = pytest.mark.sqlite


@pytest.fixture
def visit(db_path):
    def visit(**days):
        keep = {f"CALLHOUSE_KEEP_{name}_DAYS": str(n) for name, n in days.items()}
        return visiting(config.load({"CALLHOUSE_DATABASE_URL": f"sqlite:///{db_path}"} | keep))

    return visit


def test_page_without_settings_says_so(visit):
    with visit() as get:
        assert "Everything is kept for ever" in get("/-/retention").text
        assert get("/-/retention", actor=False).status_code == 302


def test_page_shows_what_is_due(visit, store):
    add_whole(store)
    with visit(PERSONAL=7, RECORDINGS=100_000) as get:
        page = get("/-/retention").text
        assert "/-/retention" in get("/").text
    assert "7 days" in page
    assert '<td data-label="Calls and chats">1</td>' in page
    assert '<td data-label="Calls and chats">0</td>' in page
    assert SECRET not in page


def test_page_stops_counting_in_time(visit, store, monkeypatch):
    monkeypatch.setattr(retention, "_COUNT_SECONDS", -1)
    add_whole(store)
    with visit(CALLS=1) as get:
        assert "more than 0" in get("/-/retention").text


def test_page_shows_receipts_without_reasons(visit, store, settings):
    add_whole(store)
    erased(settings, store, "gone", reason=f"{SECRET} asked")
    with visit() as get:
        page = get("/-/retention").text
    assert "Erase: all" in page
    assert SECRET not in page
