"""Reviewing by form: who may, what is written, who sees it."""

import logging
import re
from urllib.parse import quote

import pytest

from receiver.browse import access
from tests.support.browsing import browsing, fetched, simple
from tests.support.posting import cookies, posted, send
from tests.support.storing import ERASE, rows, stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite
ROLES = {"rita": "reviewer", "rob": "reviewer", "jane": "reader", "max": "masked"}
NOTE = "The caller was promised a refund."


@pytest.fixture
def served(settings):
    with browsing(settings, ROLES) as served:
        yield served


@pytest.fixture
def get(served, store):
    """Get a page as a user; there is a call and a chat."""
    stored(store, simple("call_1", ("user", "Hello."), ("agent", "Hi.")))
    message = {"role": "user", "content": "hi"}
    chat = {"chat_id": "chat_1", "message_with_tool_calls": [message]}
    stored(store, {"event": "chat_ended", "chat": chat})

    def get(user, path, **headers):
        return fetched(served, path, user, headers=headers)

    return get


@pytest.fixture
def post(served, get):
    """Post a form to /-/review as a user, with the CSRF token of a page."""

    def post(user, entity_id="call_1", **form):
        return posted(served, user, "/-/review", **{"entity_id": entity_id, **form})

    return post


def written(db):
    return rows(
        db,
        "SELECT kind, position, name, value, author FROM annotations "
        "WHERE removed_at IS NULL ORDER BY kind, name",
    )


def test_form_writes_what_is_filled_in(get, post, db):
    answer = post(
        "rita", verdict="bad", note=f" {NOTE}\r\nTwice.", tags="refund, rude,", assignee=""
    )
    assert answer.status_code == 302
    assert answer.headers["location"] == "/-/call/call_1#review"
    assert written(db) == [
        ("note", None, None, f"{NOTE}\nTwice.", "rita"),
        ("tag", None, "refund", None, "rita"),
        ("tag", None, "rude", None, "rita"),
        ("verdict", None, None, "bad", "rita"),
    ]
    page = get("jane", "/-/call/call_1").text
    assert NOTE in page
    assert "<small>rita, " in page


def test_turn_and_chat_are_reviewed_too(get, post, db):
    answer = post("rita", position="1", note=NOTE)
    assert answer.headers["location"] == "/-/call/call_1#turn-1"
    turn = get("rita", "/-/call/call_1").text.partition('id="turn-1"')[2]
    assert NOTE in turn
    assert post("rita", "chat_1", verdict="good").headers["location"] == "/-/chat/chat_1#review"
    assert "Good" in get("jane", "/-/chat/chat_1").text
    assert 'name="position" value="1"' in get("rita", "/-/call/call_1?turn=1").text


def test_each_reviewer_has_one_verdict(post, db):
    for user, verdict in (("rita", "bad"), ("rob", "bad"), ("rita", "good")):
        post(user, verdict=verdict)
    assert sorted(row[3:] for row in written(db)) == [("bad", "rob"), ("good", "rita")]


def test_call_is_assigned_to_one_reviewer(get, post, db):
    post("rita", assignee="rob")
    post("rita", assignee="admin")
    assert written(db) == [("assignee", None, None, "admin", "rita")]
    assert "<option selected>admin</option>" in get("rob", "/-/call/call_1").text
    post("rob", assignee="admin", verdict="good")
    assert written(db)[0] == ("assignee", None, None, "admin", "rita")
    post("rob", assignee="")
    assert [row[0] for row in written(db)] == ["verdict"]
    assert post("rita", assignee="jane").status_code == 400


def test_only_author_and_admin_remove(post, db):
    post("rita", note=NOTE)
    [(id,)] = rows(db, "SELECT annotation_id FROM annotations")
    assert post("rob", remove=id).status_code == 403
    assert written(db)
    assert post("admin", remove=id).status_code == 302
    assert written(db) == []
    post("rita", note=NOTE)
    [(id,)] = rows(db, "SELECT annotation_id FROM annotations WHERE removed_at IS NULL")
    post("rita", remove=id)
    assert rows(db, "SELECT value FROM annotations") == [(None,), (None,)]


@pytest.mark.parametrize("user", ["jane", "max"])
def test_roles_without_reviewing_are_refused(get, post, db, user):
    assert post(user, note=NOTE).status_code == 403
    assert written(db) == []
    assert "<textarea" not in get(user, "/-/call/call_1").text


def test_form_without_csrf_token_is_refused(served, get, post, db):
    token = get("rita", "/-/logout").cookies["ds_csrftoken"]
    for forged in ("", "x", token[:-1] + "A"):
        assert post("rita", note=NOTE, csrftoken=forged).status_code == 403
    form = {"entity_id": "call_1", "note": NOTE}
    answer = send(served, "/-/review", form, cookies=cookies(served, "rita"))
    assert answer.status_code == 403
    assert written(db) == []


def test_program_with_token_may_not_write(served, get, db):
    with access.edit(access.path_beside(served.callhouse_settings.database_path)) as known:
        known.tokens["robot"], text = access.new_token("reviewer")
    form = {"entity_id": "call_1", "note": NOTE}
    answer = send(served, "/-/review", form, headers={"authorization": f"Bearer {text}"})
    assert answer.status_code == 403
    assert written(db) == []


@pytest.mark.parametrize(
    "form",
    [
        {"verdict": "excellent"},
        {"note": "x" * 10_001},
        {"tags": "x" * 61},
        {"position": "1", "track": "main.calls", "note": "x"},
    ],
)
def test_invalid_form_is_refused(post, db, form):
    answer = post("rita", **form)
    assert answer.status_code == 400
    assert "Not saved" in answer.text
    assert written(db) == []


def test_unknown_and_erased_calls_cannot_be_reviewed(post, db):
    assert post("rita", "call_none", note=NOTE).status_code == 404
    db.execute(ERASE, ("call_1", 1))
    answer = post("rita", note=NOTE)
    assert (answer.status_code, "was erased" in answer.text) == (400, True)


def test_masked_reader_sees_no_note_anywhere(get, post):
    post("rita", verdict="bad", note=NOTE, tags="refund", assignee="rob")
    post("rita", position="0", note=NOTE)
    sql = quote("SELECT value, * FROM annotations")
    paths = [
        "/-/call/call_1",
        "/-/call/call_1.json",
        "/retell_masked/annotations",
        "/retell_masked/annotations.json?_shape=array",
        "/retell_masked/annotations.csv",
        "/retell_masked/annotations.json?value__contains=promised",
        f"/retell_masked.json?sql={sql}",
        f"/retell_masked.csv?sql={sql}",
    ]
    for path in paths:
        answer = get("max", path)
        assert answer.status_code == 200, path
        assert NOTE not in answer.text, path
    page = get("max", "/-/call/call_1").text
    for seen in ("Bad", "refund", "Assigned to rob"):
        assert seen in page
    assert NOTE in get("jane", "/retell/annotations.csv").text


def test_log_names_who_and_what_without_content(post, caplog):
    with caplog.at_level(logging.WARNING, logger="callhouse.audit"):
        post("rita", verdict="bad", note=NOTE)
        post("rita")
    assert [record.getMessage() for record in caplog.records] == ["rita: note, verdict of 'call_1'"]


def test_markup_in_reviews_stays_text(get, post):
    post("rita", note="<script>alert(1)</script>", tags="<b>")
    page = get("rita", "/-/call/call_1").text
    assert "<script>alert" not in page
    assert "<b>" not in re.sub(r"<bdi>", "", page)


def test_next_leads_to_pages_of_this_server_only(post):
    assert post("rita", verdict="bad", next="/-/calls").headers["location"] == "/-/calls"
    assert post("rita", verdict="bad", next="//evil.example/").headers["location"] == "/"
