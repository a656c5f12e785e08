"""Links that show one call without a login, and nothing else."""

import re
from dataclasses import replace

import pytest

from receiver import clock, config
from receiver.browse.pages.sharing import Tokens, new_link, why_invalid
from receiver.store import reviewing
from tests.support.browsing import browsing, fetched, simple
from tests.support.erasing import erased
from tests.support.posting import cookies, posted
from tests.support.recording import LINKS, keep_file, kept_environ
from tests.support.storing import rows, stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite
SOUND = b"RIFF, or what the sound is"
WORD = "porcelain"


def chat():
    """A chat with a scrubbed transcript, variables, and a cost of a product."""
    return {
        "event": "chat_analyzed",
        "chat": {
            "chat_id": "chat_1",
            "chat_status": "ended",
            "agent_id": "agent_1",
            "chat_type": "sms_chat",
            "from_number": "+14155550123",
            "message_with_tool_calls": [{"role": "user", "content": f"A {WORD} crown"}],
            "scrubbed_message_with_tool_calls": [{"role": "user", "content": "A [REMOVED] crown"}],
            "retell_llm_dynamic_variables": {"order": "a secret order"},
            "chat_analysis": {
                "chat_summary": f"Asks for {WORD}.",
                "custom_analysis_data": {"wish": f"{WORD} soon"},
            },
            "chat_cost": {
                "combined_cost": 4321,
                "product_costs": [{"product": "a secret model", "cost": 3456}],
            },
        },
    }


@pytest.fixture
def served(db_path, tmp_path, store):
    """call_1 with a scrubbed transcript, and a kept recording and log; call_2; and users."""
    scrubbed = [{"role": "user", "content": "A [REMOVED] crown"}]
    call = simple(
        "call_1", ("user", f"A {WORD} crown"), metadata={"order": "a secret order"},
        scrubbed_transcript_with_tool_calls=scrubbed, **LINKS,
    )  # fmt: skip
    stored(store, call)
    settings = config.load(kept_environ(db_path, tmp_path))
    keep_file(store, settings, SOUND)
    keep_file(store, settings, b"a log", kind="public_log", content_type="text/plain")
    stored(store, simple("call_2", ("user", f"A {WORD} crown")))
    stored(store, chat())
    with browsing(settings, {"rita": "reviewer", "rob": "reviewer", "jane": "reader"}) as served:
        yield served


@pytest.fixture
def get(served):
    def get(path, user=None, method="get"):
        return fetched(served, path, user, method=method)

    return get


@pytest.fixture
def link(served, store):
    """Put a link to a call; return its path."""

    def link(call_id="call_1", **fields):
        made = new_link(call_id, "rita", days=7, is_masked=False, now_ms=clock.now_ms())
        made = replace(made, **fields)
        reviewing.write_link(store, made)
        return served.callhouse_tokens.path(made)

    return link


def test_link_shows_its_call_without_login(get, link):
    page = get(link())
    assert page.status_code == 200
    assert WORD in page.text
    assert 'id="turn-0"' in page.text
    assert page.headers["cache-control"] == "no-store"
    assert "a secret order" not in page.text
    assert "https://recordings" not in page.text


def test_shared_page_leads_nowhere_else(get, link):
    path = link()
    page = get(path).text
    local = re.findall(r'(?:href|src|action)="(/[^"]*)"', page)
    assert {each.split("?")[0] for each in local if "/-/static" not in each} == {
        path, f"{path}/media/recording",
    }  # fmt: skip
    assert "<form" not in page


def test_link_opens_no_other_page(get, link):
    path = link()
    token = path.rpartition("/")[2]
    for other in (
        "/", "/-/calls", "/-/call/call_1", "/-/call/call_1.json", "/-/call/call_2",
        "/-/media/call_1/recording", "/retell", "/retell.json?sql=select+1", "/-/review",
        f"/-/call/call_1?token={token}", f"{path}.json", f"{path}/", f"{path}/../../call/call_1",
        f"{path}/media/../../../call/call_1", f"{path}/%2e%2e/%2e%2e/call/call_1",
    ):  # fmt: skip
        answer = get(other)
        assert answer.status_code in (302, 403, 404), other
        assert WORD not in answer.text, other
    assert get(path, method="post").status_code == 405
    assert get("/-/call/call_1").headers["location"].startswith("/-/login")


def test_link_plays_recordings_of_its_call_only(get, link):
    path = link()
    sound = get(f"{path}/media/recording")
    assert (sound.status_code, sound.content) == (200, SOUND)
    for kind in ("public_log", "other", "recording_multi_channel"):
        assert get(f"{path}/media/{kind}").status_code == 404, kind


def test_masked_link_shows_no_personal_data(get, link):
    path = link(is_masked=1)
    for variant in (path, f"{path}?scrubbed"):
        page = get(variant).text
        assert "[REMOVED]" in page
        assert WORD not in page
        assert "4155550123" not in page
        assert "<audio" not in page
    assert get(f"{path}/media/recording").status_code == 404


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"expires_at": 1}, "has expired"), ({"revoked_at": 1}, "was revoked")],
)
def test_invalid_link_shows_nothing(get, link, fields, why):
    path = link(**fields)
    page = get(path)
    assert page.status_code == 410
    assert why in page.text
    assert WORD not in page.text
    assert get(f"{path}/media/recording").status_code == 404


def test_forged_link_shows_nothing(served, get, link):
    path = link()
    stored_id = reviewing.links(served.callhouse_settings.database)[0].link_id
    content, _, signature = path.rpartition(".")
    strange = Tokens("another secret")
    made = new_link("call_1", "rita", days=7, is_masked=False, now_ms=1)
    forged = [
        strange.path(replace(made, link_id=stored_id)),
        # Signed, but of another call, or not stored.
        served.callhouse_tokens.path(replace(made, call_id="call_2", link_id=stored_id)),
        served.callhouse_tokens.path(made),
        f"{content}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}",
        "/-/shared/x",
        "/-/shared/..x",
        f"/-/shared/{'a' * 5000}",
    ]
    for each in forged:
        page = get(each)
        assert page.status_code == 404, each
        assert WORD not in page.text


def test_session_cookie_is_no_link(served, get):
    session = cookies(served, "rita")["ds_actor"]
    assert get(f"/-/shared/{session}").status_code == 404


def test_link_of_erased_call_shows_nothing(served, get, link, store):
    path = link()
    erased(served.callhouse_settings, store, "call_1")
    page = get(path)
    assert page.status_code == 404
    assert WORD not in page.text


def test_openings_are_counted(get, link, db):
    path = link()
    for _ in range(3):
        get(path)
    get(f"{path}/media/recording")
    assert rows(db, "SELECT times_opened, last_opened_at > 0 FROM share_links") == [(3, 1)]


def test_form_makes_and_revokes_links(served, get, db):
    answer = posted(served, "rita", "/-/share", entity_id="call_1", days="2", masked="on")
    assert answer.headers["location"] == "/-/call/call_1#share"
    [(id, masked, author, ms)] = rows(
        db, "SELECT link_id, is_masked, author, expires_at - created_at FROM share_links"
    )
    assert (masked, author, ms) == (1, "rita", 2 * 86_400_000)
    path = re.search(r'value="http://[^/]+(/-/shared/[^"]+)"', get("/-/call/call_1", "rita").text)[
        1
    ]
    assert "[REMOVED]" in get(path).text
    assert posted(served, "rob", "/-/share", entity_id="call_1", revoke=id).status_code == 403
    assert get(path).status_code == 200
    assert posted(served, "admin", "/-/share", entity_id="call_1", revoke=id).status_code == 302
    assert get(path).status_code == 410
    assert "/-/shared/" not in get("/-/call/call_1", "rita").text


@pytest.mark.parametrize("form", [{"days": "0"}, {"days": "366"}, {"days": "x"}, {}])
def test_link_of_impossible_length_is_refused(served, form, db):
    answer = posted(served, "rita", "/-/share", entity_id="call_1", **form)
    assert answer.status_code == 400
    assert rows(db, "SELECT 1 FROM share_links") == []


def test_readers_make_and_see_no_links(served, get, link, db):
    link()
    assert posted(served, "jane", "/-/share", entity_id="call_1", days="7").status_code == 403
    assert "/-/shared/" not in get("/-/call/call_1", "jane").text
    forged = posted(served, "rita", "/-/share", entity_id="call_1", days="7", csrftoken="x")
    assert forged.status_code == 403
    assert len(rows(db, "SELECT 1 FROM share_links")) == 1


def test_reviews_are_not_shared(served, get, link):
    posted(served, "rita", "/-/review", entity_id="call_1", note="An inner note", position="0")
    posted(served, "rita", "/-/review", entity_id="call_1", tags="inner-tag")
    path = link()
    for user in (None, "rita"):
        page = get(path, user).text
        assert "An inner note" not in page
        assert "inner-tag" not in page


def test_link_is_valid_until_it_expires():
    made = new_link("c", "a", days=1, is_masked=False, now_ms=1000)
    assert why_invalid(made, 1000 + 86_400_000 - 1) == ""
    assert "expired" in why_invalid(made, 1000 + 86_400_000)


# Chats


def test_link_shows_its_chat_without_login(get, link, db):
    path = link("chat_1")
    page = get(path)
    assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
    assert f"A {WORD} crown" in page.text
    assert f"{WORD} soon" in page.text
    for hidden in ("a secret order", "43.21", "34.56", "a secret model", "<form"):
        assert hidden not in page.text, hidden
    local = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
    assert {each.split("?")[0] for each in local if "/-/static" not in each} == {path}
    assert rows(db, "SELECT times_opened FROM share_links") == [(1,)]


def test_masked_link_of_chat_shows_no_personal_data(get, link):
    path = link("chat_1", is_masked=1)
    for variant in (path, f"{path}?scrubbed"):
        page = get(variant)
        assert page.status_code == 200
        assert "[REMOVED]" in page.text
        for hidden in (WORD, "4155550123", "a secret order"):
            assert hidden not in page.text, hidden


def test_form_of_chat_makes_and_revokes_links(served, get, db):
    answer = posted(served, "rita", "/-/share", entity_id="chat_1", days="2")
    assert answer.headers["location"] == "/-/chat/chat_1#share"
    [(id,)] = rows(db, "SELECT link_id FROM share_links")
    page = get("/-/chat/chat_1", "rita").text
    path = re.search(r'value="http://[^/]+(/-/shared/[^"]+)"', page)[1]
    assert get(path).status_code == 200
    assert "/-/shared/" not in get("/-/chat/chat_1", "jane").text
    posted(served, "rita", "/-/share", entity_id="chat_1", revoke=id)
    assert get(path).status_code == 410
    assert posted(served, "rita", "/-/share", entity_id="nothing", days="2").status_code == 404


def test_link_of_erased_chat_shows_nothing(served, get, link, store):
    path = link("chat_1")
    erased(served.callhouse_settings, store, "chat_1")
    assert get(path).status_code == 404
