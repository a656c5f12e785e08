"""The page of calls: words and their turns, what the address holds, and what is shown."""

import html
import re
from urllib.parse import parse_qsl, urlencode

import pytest

from receiver.browse.pages import call_list, call_list_page, call_search
from tests.support.browsing import START, simple
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite
HOUR = 3_600_000


@pytest.fixture
def three(store):
    stored(store, simple("call_1", ("agent", "Hello."), ("user", "A crown next week, please.")))
    other = {"agent_name": "Night", "start_timestamp": START + HOUR, "from_number": "+1"}
    lines = [("user", "No crown today."), ("agent", "Rescheduled the crown.")]
    stored(store, simple("call_2", *lines, **other))
    late = {"start_timestamp": START + 30 * HOUR, "call_analysis": {"user_sentiment": "negative"}}
    stored(store, simple("call_3", ("user", "Nothing."), **late))


def shown(page):
    """The calls of the page in their order."""
    assert page.status_code == 200, page.text
    return re.findall(r'class="time"><a href="/-/call/(\w+)', page.text)


def turns(page):
    """The turns that the page leads to."""
    assert page.status_code == 200, page.text
    return re.findall(r'href="/-/call/(\w+)[^"]*#turn-(\d+)"', page.text)


# Query, and the first turn of each call with the words.
TURNS = [
    ("q=crown", [("call_2", "0"), ("call_1", "1")]),
    ('q="next week"', [("call_1", "1")]),
    ("q=resched*", [("call_2", "1")]),
    ("q=crown -today", [("call_1", "1")]),
    ("q=crown&agent=Night", [("call_2", "0")]),
    ("q=crown&number=%2B1 415-555 0123", [("call_1", "1")]),
    ("q=crown&since=2026-05-13", []),
    ("q=week&until=2026-05-12", [("call_1", "1")]),
    ("q=week&tool=book", []),
    ("q=week&outcome=user_hangup", [("call_1", "1")]),
    ("q=nothing&sentiment=Negative", [("call_3", "0")]),
    ("q=nothing&sentiment=Positive", []),
]


@pytest.mark.parametrize("few", [0, 5_000])
def test_words_lead_to_the_first_turn(browse, three, monkeypatch, few):
    monkeypatch.setattr(call_search, "_FEW", few)
    for query, expected in TURNS:
        assert turns(browse(f"/-/calls?{query}")) == expected, query


def test_hit_is_marked_and_further_ones_counted(browse, three):
    page = browse("/-/calls?q=crown").text
    assert "A <mark>crown</mark> next week, please." in page
    assert "<small>and 1 more</small>" in page


def test_former_search_leads_to_calls(browse, three):
    answer = browse("/-/search?q=crown&agent=Night")
    assert answer.status_code == 302
    assert answer.headers["location"] == "/-/calls?q=crown&agent=Night"


@pytest.mark.parametrize("call_id", ["call_1", " call_1 "])
def test_call_id_leads_to_the_call(browse, three, call_id):
    answer = browse(f"/-/calls?q={call_id}")
    assert (answer.status_code, answer.headers["location"]) == (302, "/-/call/call_1")


def test_form_leads_to_an_address_without_empty_fields(browse, three):
    answer = browse("/-/calls?q=&agent=Night&success=&sort=-cost")
    assert answer.headers["location"] == "/-/calls?agent=Night&sort=-cost"


INVALID = [
    *('q="open', "q=(a", "q=a OR", "q=-only"),
    *("since=soon", "q=a&until=9999-12-31", "period=soon", "success=maybe"),
    *("weekday=someday", "hour=24", "hour=²", "tool_result=x", "transferred=no"),
    *("min_duration=long", "max_cost=much", "agent=a&version=x"),
]


def test_invalid_filter_gets_hint(browse, three):
    for query in INVALID:
        page = browse(f"/-/calls?{query}")
        assert page.status_code == 400, query
        assert "cannot be read" in page.text, query
        assert 'name="q"' in page.text, query


def test_each_chip_removes_its_filter(browse, three):
    page = browse("/-/calls?q=crown&agent=Night&outcome=user_hangup").text
    chips = re.findall(r'<li><a href="([^"]+)" title="Remove this filter">(.+?) <span', page)
    assert [(html.unescape(url), text) for url, text in chips] == [
        ("/-/calls?agent=Night&outcome=user_hangup", "Search crown"),
        ("/-/calls?q=crown&outcome=user_hangup", "Night"),
        ("/-/calls?q=crown&agent=Night", "User hung up"),
    ]


# Filters that links set, and their chips.
LINKED = {
    "weekday=tue&hour=9": ["Tuesdays", "9:00 to 10:00"],
    "tool=book&tool_result=failed": ["Tool book", "Tool did not run"],
    "node=Greet&next_node=Book": ["Node Greet", "Next node Book"],
    "node=Greet&next_node=none": ["Node Greet", "Ended there"],
    "product=gpt_4o_mini": ["Product: GPT 4o mini"],
    "product=family:voice engine": ["Cost: Voice engine"],
    "transferred=yes": ["Transferred"],
    "outcome=category:no end yet": ["Outcome: No end yet"],
    "success=judged": ["Judged"],
}


def test_filters_of_links_are_chips_and_kept(browse, three):
    for query, expected in LINKED.items():
        page = browse(f"/-/calls?{query}").text
        chips = re.findall(r'title="Remove this filter">(.+?) <span', page)
        assert [html.unescape(text) for text in chips] == expected
        form = page.split('role="search"')[-1].split("</form>")[0]
        kept = dict(re.findall(r'<input type="(?:hidden|text)" name="(\w+)" value="([^"]*)"', form))
        for name, options in re.findall(r'<select name="(\w+)">(.*?)</select>', form, re.DOTALL):
            kept[name] = "".join(re.findall(r'value="([^"]+)" selected', options))
        assert {name: kept[name] for name, _ in parse_qsl(query)} == dict(parse_qsl(query))


def test_next_node_needs_its_node(browse, three):
    page = browse("/-/calls?next_node=Book").text
    assert "Remove this filter" not in page


def test_sorted_column_says_so_and_can_be_reversed(browse, three):
    page = browse("/-/calls?sort=-cost").text
    assert re.search(r'class="cost" aria-sort="descending"><a href="/-/calls\?sort=cost">', page)
    assert '<th scope="col" class="time"><a href="/-/calls">' in page


def test_page_without_words_shows_the_summary(browse, store):
    analysis = {"call_summary": "They wanted <b>a refund</b>."}
    stored(store, simple("call_1", call_analysis=analysis))
    assert "They wanted &lt;b&gt;a refund&lt;/b&gt;." in browse("/-/calls").text


def test_undated_calls_are_last_in_both_directions(browse, store, monkeypatch):
    monkeypatch.setattr(call_list_page, "PAGE_SIZE", 2)
    for n in range(5):
        stored(store, simple(f"call_{n}", start_timestamp=START + n if n < 3 else None), at=0)
    for sort, expected in (("", "21043"), ("&sort=time", "01234")):
        page, found = browse(f"/-/calls?{sort}"), []
        while True:
            found += shown(page)
            if not (link := re.search(r'rel="next" href="([^"]+)"', page.text)):
                break
            page = browse(html.unescape(link[1]))
        assert found == [f"call_{n}" for n in expected]


@pytest.mark.parametrize("many", [0, 20_000])
def test_calls_without_sentiment_may_have_an_analysis(browse, store, monkeypatch, many):
    monkeypatch.setattr(call_list, "_MANY", many)
    stored(store, simple("call_none"))
    stored(store, simple("call_null", call_analysis={"call_successful": True}))
    stored(store, simple("call_both", call_analysis={"user_sentiment": "Neutral"}))
    assert {*shown(browse("/-/calls?sentiment=none"))} == {"call_none", "call_null"}
    assert {*shown(browse("/-/calls?success=unknown"))} == {"call_none", "call_both"}


def test_one_match_of_the_other_kind_is_singular(browse, three, store):
    lines = [{"role": "user", "content": "A crown."}]
    chat = {"chat_id": "c", "start_timestamp": START, "transcript": "User: A crown."}
    stored(store, {"event": "chat_ended", "chat": chat | {"message_with_tool_calls": lines}})
    assert ">1 chat</a>" in browse("/-/calls?q=crown").text
    assert ">2 calls</a>" in browse("/-/calls?kind=chat&q=crown").text


def test_slow_totals_are_counted_on_request(browse, three, monkeypatch):
    monkeypatch.setattr(call_list, "TOTALS_LIMIT_MS", -1)
    page = browse("/-/calls?success=unknown")
    assert shown(page) == ["call_3", "call_2", "call_1"]
    assert "Too many calls to count quickly" in page.text
    link = re.search(r'href="([^"]+)">Count them', page.text)[1]
    assert "<strong>3</strong> calls" in browse(html.unescape(link)).text


def test_totals_of_common_words_have_a_shorter_limit(browse, three, monkeypatch):
    monkeypatch.setattr(call_list, "COMMON_TOTALS_LIMIT_MS", -1)
    assert "<strong>2</strong> calls" in browse("/-/calls?q=crown").text
    monkeypatch.setattr(call_search, "_FEW", 0)
    page = browse("/-/calls?q=crown")
    assert shown(page) == ["call_2", "call_1"]
    assert "Too many calls to count quickly" in page.text


def test_list_that_takes_too_long_says_so(browse, three, monkeypatch):
    monkeypatch.setattr(call_list, "ROWS_LIMIT_MS", -1)
    assert "This takes too long. Add dates" in browse("/-/calls").text


def test_chats_are_listed_apart(browse, store):
    chat = {"chat_id": "chat_1", "chat_status": "ended", "agent_name": "Messages"}
    analysis = {"chat_summary": "Asked for hours.", "user_sentiment": "Positive"}
    chat |= {"start_timestamp": START, "chat_analysis": analysis}
    stored(store, {"event": "chat_analyzed", "chat": chat})
    page = browse("/-/calls?kind=chat&sentiment=positive").text
    assert '<a href="/-/chat/chat_1?list=kind%3Dchat%26sentiment%3Dpositive">' in page
    assert "<strong>1</strong> chat " in page
    assert "Asked for hours." in page


JAPANESE = [("agent", "はい、承ります。"), ("user", "明日の予約をお願いします。")]


@pytest.fixture
def several(store):
    """A call in Japanese, one whose summary has other words than its turns, and a chat."""
    stored(store, simple("call_ja", *JAPANESE, start_timestamp=START + 2))
    analysis = {"call_summary": "Wanted a refund; 返金の件。"}
    turns = [("user", "Money back, please. Not the 4711.")]
    event = simple("call_en", *turns, call_analysis=analysis, start_timestamp=START + 1)
    stored(store, event | {"event": "call_analyzed"})
    stored(store, simple("call_end", ("user", "Nothing."), from_number="+14155554711"))
    chat = {"chat_id": "chat_1", "chat_status": "ended", "transcript": "User: A refund? 予約も。"}
    stored(store, {"event": "chat_ended", "chat": chat | {"start_timestamp": START}})


# Words, the calls with them, and how many chats have them.
EVERYWHERE = [
    ("予約", ["call_ja"], 1),
    ("予", ["call_ja"], 1),
    ("予約をお願い", ["call_ja"], 0),
    ("お願いします。", ["call_ja"], 0),
    ("予約 -明日", [], 1),
    ("予約 OR 返金", ["call_ja", "call_en"], 1),
    ("予約 AND (返金 OR 承り)", ["call_ja"], 0),
    ("返金 refund", ["call_en"], 0),
    ("refund", ["call_en"], 1),
    ("refund OR nothing", ["call_en", "call_end"], 1),
    ("back -refund", [], 0),
    ("back -予約", ["call_en"], 0),
    ("4711", ["call_en", "call_end"], 0),
    ("+1 (415) 555-4711", ["call_end"], 0),
    ("変更", [], 0),
]


@pytest.mark.parametrize("few", [0, 5_000])
def test_words_are_found_everywhere(browse, several, monkeypatch, few):
    monkeypatch.setattr(call_search, "_FEW", few)
    for words, calls, chats in EVERYWHERE:
        page = browse("/-/calls?" + urlencode({"q": words}))
        assert shown(page) == calls, words
        assert f">{chats} chat{'' if chats == 1 else 's'}</a>" in page.text, words
        page = browse("/-/calls?" + urlencode({"kind": "chat", "q": words}))
        assert page.text.count('class="time"><a href="/-/chat/chat_1?list=') == chats, words


def test_found_characters_and_summaries_are_marked(browse, several):
    page = browse("/-/calls?q=予約").text
    assert "明日の<mark>予約</mark>をお願いします。" in page
    assert turns(browse("/-/calls?q=予約")) == [("call_ja", "1")]
    assert "Wanted a <mark>refund</mark>;" in browse("/-/calls?q=refund").text


def test_scripts_cannot_be_combined_by_or(browse, several):
    page = browse("/-/calls?q=予約 OR refund")
    assert page.status_code == 400
    assert "Search for each separately" in page.text


def around(page):
    """The previous and the next call of the list that a call was opened from."""
    nav = re.search(r'<nav class="queue" aria-label="List">(.*?)</nav>', page.text, re.DOTALL)[1]
    return [
        html.unescape(found[1])
        if (found := re.search(f'rel="{rel}" href="([^"]+)"', nav))
        else None
        for rel in ("prev", "next")
    ]


def test_calls_lead_through_their_list(browse, store):
    for n in range(5):
        outcome = "agent_hangup" if n == 2 else "user_hangup"
        at = {"start_timestamp": START + n if n else None, "disconnection_reason": outcome}
        stored(store, simple(f"call_{n}", **at), at=0)
    for query, ids in (
        ("outcome=user_hangup", (4, 3, 1, 0)),
        ("outcome=user_hangup&sort=time", (1, 3, 4, 0)),
        ("", (4, 3, 2, 1, 0)),
        ("sort=agent", (0, 1, 2, 3, 4)),
    ):
        page, found = browse(f"/-/calls?{query}"), []
        assert shown(page) == [f"call_{n}" for n in ids]
        url, before = re.search(r'<td class="time"><a href="([^"]+)"', page.text)[1], None
        while url:
            found.append(url)
            previous, url = around(browse(url := html.unescape(url)))
            assert (previous or "").partition("?")[0] == (before or "").partition("?")[0]
            before = found[-1]
        assert [link.partition("?")[0] for link in found] == [f"/-/call/call_{n}" for n in ids]
    assert 'href="/-/calls?sort=agent">list of calls</a>' in browse(found[0]).text


def test_call_without_a_list_has_no_position(browse, three):
    assert 'aria-label="List"' not in browse("/-/call/call_1").text
    assert 'aria-label="List"' not in browse("/-/call/call_1?list=since%3Dsoon").text
