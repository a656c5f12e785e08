"""Saved views: who may save, share, see and remove which."""

import html
import logging
import re

import pytest

from receiver.browse.pages import saved_views
from tests.support.browsing import START, browsing, fetched, simple
from tests.support.posting import cookies, posted, send
from tests.support.storing import rows, stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite
ROLES = {"rita": "reviewer", "jane": "reader", "joe": "reader", "max": "masked"}


@pytest.fixture
def served(settings, store):
    stored(store, simple("call_1", ("user", "Hello.")))
    with browsing(settings, ROLES) as served:
        yield served


@pytest.fixture
def get(served):
    return lambda user, path: fetched(served, path, user)


@pytest.fixture
def post(served):
    return lambda user, **form: posted(served, user, "/-/views", **form)


def listed(get, user):
    """The views of the navigation: name and address."""
    page = get(user, "/-/calls").text
    menu = re.search(r'<details class="views">(.*?)</details>', page, re.DOTALL)
    found = re.findall(r'<li><a href="([^"]+)">([^<]+)</a>', menu[1]) if menu else []
    return [(name, html.unescape(url)) for url, name in found]


def test_saved_view_is_in_the_navigation(get, post):
    answer = post("jane", name=" Bad calls ", query="success=no&q=&colour=red")
    assert (answer.status_code, answer.headers["location"]) == (302, "/-/calls?success=no")
    assert listed(get, "jane") == [("Bad calls", "/-/calls?success=no")]
    assert "View: <strong>Bad calls</strong>" in get("jane", "/-/calls?success=no").text
    assert listed(get, "joe") == []


def test_reviewer_shares_a_view(get, post):
    post("rita", name="For all", query="sentiment=negative", is_shared="on")
    shared = [("For all", "/-/calls?sentiment=negative")]
    assert listed(get, "rita") == listed(get, "jane") == shared
    assert listed(get, "max") == []


def test_reader_shares_nothing(get, post):
    post("jane", name="Mine", query="success=no", is_shared="on")
    assert listed(get, "joe") == []
    assert 'name="is_shared"' not in get("jane", "/-/calls?success=no").text


def test_masked_login_saves_nothing(post):
    assert post("max", name="x", query="success=no").status_code == 403


def test_only_its_author_and_admin_remove_a_view(get, post, db):
    post("rita", name="For all", query="success=no", is_shared="on")
    [(view_id,)] = rows(db, "SELECT view_id FROM saved_views")
    assert post("jane", remove=view_id, query="success=no").status_code == 403
    assert listed(get, "rita")
    assert post("admin", remove=view_id, query="success=no").status_code == 302
    assert listed(get, "rita") == []
    assert rows(db, "SELECT name, query FROM saved_views") == [(None, None)]


@pytest.mark.parametrize("name", ["", " ", "n" * 61])
def test_view_needs_a_fitting_name(post, db, name):
    assert post("jane", name=name, query="success=no").status_code == 400
    assert rows(db, "SELECT * FROM saved_views") == []


def test_views_of_a_user_are_bounded(post, monkeypatch):
    monkeypatch.setattr(saved_views, "MAX_VIEWS", 1)
    assert post("jane", name="one", query="success=no").status_code == 302
    answer = post("jane", name="two", query="success=yes")
    assert (answer.status_code, "Remove one first" in answer.text) == (400, True)


def test_form_needs_the_token_of_a_page(served, db):
    answer = send(served, "/-/views", {"name": "x"}, cookies=cookies(served, "jane"))
    assert answer.status_code == 403
    assert rows(db, "SELECT * FROM saved_views") == []


def test_audit_has_no_content(post, caplog):
    with caplog.at_level(logging.WARNING, logger="callhouse.audit"):
        post("jane", name="Number of Mr Smith", query="number=4155550123")
    [record] = [r for r in caplog.records if r.name == "callhouse.audit"]
    assert record.getMessage().startswith("jane: saved view of ")
    assert "Smith" not in caplog.text
    assert "5550123" not in record.getMessage()


def on_home(get, user):
    """The calls of the view on the home page of a user, and the address of all; None without."""
    page = get(user, "/").text
    found = re.search(r'<section class="of-view">(.*?)</section>', page, re.DOTALL)
    if not found:
        return None
    calls = re.findall(r'href="/-/call/(\w+)"', found[1])
    return calls, html.unescape(re.findall(r'<a href="([^"]+)">All of', found[1])[0])


def test_chosen_view_is_on_my_home(get, post, store, db):
    for n in range(7):
        event = simple(f"call_long_{n}", duration_ms=90_000, start_timestamp=START + n * 1000)
        stored(store, event)
    post("rita", name="Long", query="min_duration=60", is_shared="on")
    assert on_home(get, "jane") is None
    assert post("jane", home="1", query="min_duration=60").status_code == 302
    longest = [f"call_long_{n}" for n in (6, 5, 4, 3, 2)]
    [(query,)] = rows(db, "SELECT query FROM saved_views WHERE name <> ''")
    assert on_home(get, "jane") == (longest, f"/-/calls?{query}")
    assert on_home(get, "rita") is None
    assert listed(get, "jane") == [("Long", f"/-/calls?{query}")]
    post("jane", name="Good", query="success=yes")
    post("jane", home="1", query="success=yes")
    assert on_home(get, "jane") == ([], "/-/calls?success=yes")
    post("jane", home="", query="success=yes")
    assert on_home(get, "jane") is None


def test_times_of_home_have_one_form(get, post):
    post("jane", name="All", query="direction=inbound")
    post("jane", home="1", query="direction=inbound")
    times = re.findall(r'class="when">(.*?)</span>', get("jane", "/").text, re.DOTALL)
    assert len(times) >= 2
    assert len(set(times)) == 1


def test_removed_view_leaves_home(get, post, db):
    post("jane", name="All", query="direction=inbound")
    post("jane", home="1", query="direction=inbound")
    assert on_home(get, "jane") == (["call_1"], "/-/calls?direction=inbound")
    [(view_id,)] = rows(db, "SELECT view_id FROM saved_views WHERE name = 'All'")
    post("jane", remove=view_id, query="direction=inbound")
    assert on_home(get, "jane") is None
