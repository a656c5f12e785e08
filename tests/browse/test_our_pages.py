"""Our own pages in Datasette, asked over its client: a call, home, the policy."""

import html
import re
from dataclasses import replace
from urllib.parse import quote_plus

import pytest

from receiver.browse.pages import sums
from receiver.store import receive
from schema.questions import questions
from tests.support.browsing import START, simple, visiting
from tests.support.days import day, deliver
from tests.support.storing import ERASE, plant, stored
from tests.support.webhooks import payload

# Datasette serves files.
pytestmark = pytest.mark.sqlite


@pytest.fixture
def call(store):
    event = payload("event-call_analyzed")
    stored(store, event)
    return event["call"]


# Who may see


def test_anonymous_visitor_sees_no_page(browse, call):
    for path in (
        "/",
        f"/-/call/{call['call_id']}",
        f"/-/call/{call['call_id']}.json",
        "/-/call/unknown",
        "/-/chat/unknown",
        "/-/calls",
        "/-/calls?q=the",
    ):
        answer = browse(path, actor=False)
        assert answer.status_code == (403 if path.endswith(".json") else 302), path
        assert call["from_number"] not in answer.text
        assert "call_log" not in answer.text


def test_every_response_has_strict_policy_and_nonce(browse, call):
    nonces = set()
    for path in ("/", "/retell/call_log", "/-/login", "/nowhere", "/retell.json?sql=select+1"):
        policy = browse(path).headers["content-security-policy"]
        assert policy.startswith("default-src 'self'; script-src 'self' 'nonce-")
        assert "unsafe" not in policy
        assert "https:" not in policy.replace("media-src 'self' https:", "")
        nonces.add(re.search(r"nonce-([\w-]+)", policy)[1])
    assert len(nonces) == 5


def test_recordings_of_local_retell_may_be_played(settings):
    with visiting(replace(settings, base_url="http://127.0.0.1:8002/retell")) as get:
        policy = get("/").headers["content-security-policy"]
    assert "media-src 'self' https: http://127.0.0.1:8002;" in policy


def test_inline_scripts_and_styles_have_nonce(browse, call):
    paths = ("/", "/retell", "/retell/calls", "/retell?sql=select+1", "/-/logout", "/nowhere")
    for path in (*paths, f"/-/call/{call['call_id']}"):
        answer = browse(path)
        nonce = re.search(r"nonce-([\w-]+)", answer.headers["content-security-policy"])[1]
        tags = re.findall(r"<(?:script|style)\b[^>]*>", answer.text)
        assert tags, path
        assert [tag for tag in tags if f'nonce="{nonce}"' not in tag] == []
        assert ' style="' not in answer.text
        assert not re.search(r"<[^>]+\son\w+=", answer.text)


# A call


def test_call_page_shows_main_facts(browse, store):
    stored(store, simple("call_1", ("user", "hello"), call_cost={"combined_cost": 12.34}))
    page = browse("/-/call/call_1").text
    for text in (
        "Call from +14155550123",
        "Dental",
        "Tue 12 May 2026, 02:00:00 CEST",
        "User hung up",
        "$0.12",
        'title="12.34 cents"',
        'id="turn-0"',
    ):
        assert text in page, text


@pytest.mark.slow
def test_every_call_and_chat_has_a_page(browse, store, db):
    deliver(store, day(3, day_start_ms=START, calls=60))
    for (call_id,) in db.execute("SELECT call_id FROM calls").fetchall():
        for path in (
            f"/-/call/{call_id}",
            f"/-/call/{call_id}?scrubbed",
            f"/-/call/{call_id}.json",
        ):
            assert browse(path).status_code == 200, path
    for (chat_id,) in db.execute("SELECT chat_id FROM chats").fetchall():
        assert browse(f"/-/chat/{chat_id}").status_code == 200, chat_id
    assert "Needs attention" in browse("/").text


def test_markup_of_callers_does_no_harm_anywhere(browse, store):
    evil = "<script>alert(1)</script>"
    event = simple(
        "call_evil",
        ("user", f"{evil} found"),
        agent_name=evil,
        from_number=evil,
        disconnection_reason=evil,
        metadata={evil: evil},
        call_analysis={"call_summary": evil, "user_sentiment": evil},
    )
    event["call"]["transcript_with_tool_calls"].append(
        {"role": "tool_call_invocation", "name": evil, "arguments": evil, "time_sec": 0.2}
    )
    stored(store, event)
    paths = ("/", "/-/call/call_evil", "/-/calls?q=found", f"/-/calls?q={evil}")
    for path in (*paths, "/retell/call_log", "/retell/tool_calls", "/-/calls?agent=" + evil):
        assert "<script>alert" not in browse(path).text, path


def test_home_compares_only_with_stored_days(browse, store):
    day = 86_400_000
    for n, age in enumerate((0, 0, 8)):
        stored(store, simple(f"call_{n}", start_timestamp=START - age * day))
    page = browse("/?period=7-days").text
    assert "compared with" not in page
    assert "The change of a share" not in page
    stored(store, simple("call_old", start_timestamp=START - 20 * day))
    page = browse("/?period=7-days").text
    assert "compared with" in page
    assert "▲ 100 %" in page


def test_page_names_the_rule_that_answered(browse, store):
    answered = {"metadata": {"callhouse_rule": "complaint"}}
    stored(store, simple("call_1", **answered))
    stored(store, {"event": "chat_ended", "chat": {"chat_id": "chat_1", **answered}})
    for page in ("/-/call/call_1", "/-/chat/chat_1"):
        assert re.search("<dt>answered by rule</dt><dd>(<bdi>)?complaint", browse(page).text), page


def test_neighbours_are_by_number_and_agent(browse, store):
    hour = 3_600_000
    for n, (number, agent) in enumerate(
        [("+14155550123", "a"), ("+14155550999", "b"), ("+14155550123", "b")]
    ):
        at = {"start_timestamp": START + n * hour}
        stored(store, simple(f"call_{n}", from_number=number, agent_id=agent, **at))
    page = browse("/-/call/call_2").text
    before = re.findall(r'rel="prev" href="/-/call/(\w+)"', page)
    assert before == ["call_0", "call_1"]
    for of in ("number=%2B14155550123", "agent=b"):
        assert f'<a href="/-/calls?{of}">all 2 calls</a>' in page
        assert "<strong>2</strong> calls" in browse(f"/-/calls?{of}").text
    assert re.findall(r'rel="next" href="/-/call/(\w+)"', page) == []


def test_calls_without_a_number_are_not_neighbours(browse, store):
    for n in (0, 1):
        at = {"start_timestamp": START + n, "from_number": "anonymous", "agent_id": f"agent_{n}"}
        stored(store, simple(f"call_{n}", **at))
    assert 'rel="prev"' not in browse("/-/call/call_1").text


def test_an_id_of_any_characters_has_a_page(browse, store):
    stored(store, simple("a/b.json?ü%", ("user", "hello")))
    link = re.search(r'href="(/-/call/[^"]+)"', browse("/retell/call_log").text)[1]
    assert browse(link).status_code == 200
    assert browse(f"{link}.json").json()["call_id"] == "a/b.json?ü%"


def test_missing_and_erased_calls_differ(browse, db):
    db.execute(ERASE, ("call_gone", 1))
    missing, erased = browse("/-/call/nope"), browse("/-/call/call_gone")
    assert (missing.status_code, erased.status_code) == (404, 404)
    assert "No call with this id" in missing.text
    assert "was erased" in erased.text


def test_quarantined_delivery_is_mentioned_on_its_call(browse, store, monkeypatch):
    stored(store, simple("poison", ("user", "hello")))
    assert "quarantined" not in browse("/-/call/poison").text
    plant(monkeypatch, ValueError("no such field"))
    stored(store, simple("poison", ("user", "hello again")), at=2)
    page = browse("/-/call/poison").text
    assert "One delivery of it could not be read and is" in page
    assert 'href="/retell/observations?entity_id=poison&amp;problem__notblank=1"' in page


def test_chat_names_the_agent_of_its_calls(browse, store):
    message = {"role": "user", "content": "hi"}
    sms = {"role": "sms", "content": {"text": "See you"}, "multimedia": [{"url": "a.png"}]}
    chat = {"chat_id": "chat_1", "agent_id": "agent_1", "message_with_tool_calls": [message, sms]}
    stored(store, {"event": "chat_ended", "chat": chat})
    assert "<span>agent_1</span>" in browse("/-/chat/chat_1").text
    stored(store, simple("call_1"))
    page = browse("/-/chat/chat_1").text
    assert "<span>Dental</span>" in page
    assert '<p class="said" dir="auto">See you\nMultimedia: a.png</p>' in page


def test_the_call_object_holds_no_access_token(browse, store):
    stored(store, simple("call_1", access_token="secret-token"))
    assert "secret-token" not in browse("/-/call/call_1.json").text
    assert "secret-token" not in browse("/-/call/call_1").text


@pytest.fixture
def three(store):
    hour = 3_600_000
    stored(store, simple("call_1", ("agent", "Hello."), ("user", "A crown next week, please.")))
    other = {"agent_name": "Night", "start_timestamp": START + hour, "from_number": "+1"}
    lines = [("user", "No crown today."), ("agent", "Rescheduled the crown.")]
    stored(store, simple("call_2", *lines, **other))
    late = {"start_timestamp": START + 30 * hour, "call_analysis": {"user_sentiment": "negative"}}
    stored(store, simple("call_3", ("user", "Nothing."), **late))


# Home and tables


def test_home_without_a_call_says_what_to_do(browse):
    page = browse("/")
    assert page.status_code == 200
    assert "No calls yet" in page.text
    steps = re.findall(r'<li( class="done")?><strong>([^<]+)', page.text)
    assert [name for _, name in steps] == [
        *("A Retell API key", "The receiver", "The way to the receiver", "The URL at Retell"),
        *("The first event", "Earlier calls"),
    ]
    assert [name for done, name in steps if done] == ["A Retell API key"]


def test_checklist_of_home_sees_an_event(browse, store):
    body = b'{"event": "alert_triggered", "alert": {}}'
    store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    done = re.findall(r'<li class="done"><strong>([^<]+)', browse("/").text)
    assert "The first event" in done
    assert "Earlier calls" not in done


def test_every_question_of_the_list_answers(browse, three):
    page = browse("/-/questions").text
    found = re.findall(r'<dt><a href="([^"]+)">([^<]+)', page)
    assert len(found) == len(questions())
    for url, title in found:
        answer = browse(html.unescape(url))
        assert answer.status_code == 200, url
        assert html.unescape(title) in html.unescape(answer.text), url


def test_navigation_marks_the_page_and_names_callhouse(browse, three):
    for path, name in (
        ("/-/calls", "Calls"),
        ("/-/call/call_1", "Calls"),
        ("/-/questions", "Questions"),
        ("/retell/slowest_tools", "Questions"),
        ("/-/dashboards/volume", "Dashboards"),
        ("/retell/calls", "Tables"),
    ):
        page = browse(path).text
        header = page.split("</header>")[0]
        marked = re.findall(r'aria-current="page">([^<]+)</a>', header)
        assert marked == [name], path
        assert re.search(r"<title>[^<]*callhouse[^<]*</title>", page), path
    assert 'aria-current="page">' not in browse("/").text.split("</header>")[0]


def test_query_is_titled_by_question_or_sql(browse, three):
    for path, title in (
        ("/retell/slowest_tools", questions()["slowest_tools"].title),
        ("/retell?sql=select+1", "SQL: select 1"),
    ):
        assert f"<title>{title} · callhouse</title>" in html.unescape(browse(path).text)


def test_home_leaves_out_what_takes_too_long(browse, three, monkeypatch):
    monkeypatch.setattr(sums, "_LIMIT_MS", -1)
    page = browse("/")
    assert page.status_code == 200
    assert "call_2" in page.text
    page = browse("/-/dashboards/volume")
    assert page.status_code == 200
    assert "The totals take too long" in page.text


def test_home_shows_figures_and_what_needs_attention(browse, three, store):
    store.add(receive(b"not JSON", source="webhook", observed_at=1, received_at=1))
    chat = {"chat_id": "chat_1", "chat_status": "ended", "start_timestamp": 1}
    stored(store, {"event": "chat_ended", "chat": chat})
    stored(store, simple("call_3", duration_ms=581_000), at=3_600_003)
    page = browse("/").text
    assert '<span class="value">3</span>' in page
    assert "<strong>1</strong> quarantined" in page
    assert "They are stored" in page
    # Two calls and the chat.
    assert "<strong>3</strong> never analysed" in page
    table = browse("/retell/needs_attention?what=never+analysed").text
    assert 'href="/-/chat/chat_1"' in table
    assert "ended without a reason" in table
    assert 'href="/-/call/call_3"' in page


def test_only_connected_calls_have_a_length(browse, store):
    stored(store, simple("call_1", duration_ms=581_000))
    missed = {"disconnection_reason": "dial_no_answer", "duration_ms": 0}
    stored(store, simple("call_2", **missed, start_timestamp=None))
    lengths = re.findall(r'<span class="how">([^<]*)</span>', browse("/").text)
    assert sorted(lengths) == ["No answer", "User hung up, 9:41"]


def test_tables_are_formatted_and_exports_exact(browse, store):
    stored(store, simple("call_1", call_cost={"combined_cost": 12.345}))
    page = browse("/retell/calls").text
    assert "2026-05-12 02:00:00 CEST</time>" in page
    assert f"= {START} ms" in page
    assert '<span title="12.345 cents">$0.12</span>' in page
    row = browse("/retell/calls.json?_shape=array").json()[0]
    assert (row["start_timestamp"], row["combined_cost_cents"]) == (START, 12.345)
    assert f",{START}," in browse("/retell/calls.csv").text


def test_datasettes_pages_keep_their_features(browse, three):
    page = browse("/retell/call_log?agent=Dental").text
    for part in (
        'name="_filter_column_1"',
        'data-column="outcome"',
        "call_log.csv",
        "?sql=",
        "_sort=",
    ):
        assert part in page, part
    assert "What the columns mean" in page
    assert "Filter and search calls" in page
    assert "utterances" in browse("/retell/calls/call_1").text


# Errors


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("selec 1", "Only queries that read"),
        ("delete from calls", "Only queries that read"),
        ("select * from nowhere", "no such table: nowhere"),
        ("select 1 where", "incomplete input"),
        ("select * from pragma_compile_options", "PRAGMA"),
        (
            "with recursive n(i) as (select 1 union all select i + 1 from n) select max(i) from n",
            "",
        ),
    ],
)
def test_failed_query_is_returned_in_its_editor(browse, call, sql, message):
    answer = browse(f"/retell?_timelimit=50&sql={quote_plus(sql)}")
    assert answer.status_code == 400
    page = html.unescape(answer.text)
    assert (message or "This takes too long") in page
    editor = re.search(r'<textarea id="sql-editor"[^>]*>([^<]*)</textarea>', page)
    assert editor[1].strip() == sql
    assert '<nav aria-label="Pages">' in page
    assert "Traceback" not in page


def test_error_pages_have_navigation_and_labels(browse, call):
    for path, title in (
        ("/nowhere", "Not found"),
        ("/retell/nowhere", "Not found"),
        ("/-/call/unknown", "Not found"),
        ("/retell/calls?_size=x", "This address cannot be read"),
        ("/retell_masked", "Not allowed"),
    ):
        page = browse(path).text
        assert f"<h1>{title}</h1>" in page, path
        assert '<nav aria-label="Pages">' in page, path
        assert "sql-editor" not in page, path
    assert browse("/retell.json?sql=selec+1").json()["error"] == "Statement must be a SELECT"
