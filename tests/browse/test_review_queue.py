"""Which calls to review, and how far people and Retell agree."""

import re
from datetime import date

import pytest

from receiver.browse.pages.review_queue import parse_queue
from receiver.store import reviewing
from receiver.store.reviewing import Annotation
from schema.statistics import sample
from tests.support.browsing import START, add_users, simple, visiting
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite
DAY = date(2026, 5, 12)
HOUR_MS = 3_600_000


def calls(count, agents=2):
    return [{"call_id": f"call_{n}", "agent_id": f"agent_{n % agents}"} for n in range(count)]


def test_sample_has_so_many_of_each_agent():
    found = sample(calls(40), DAY, 5)
    agents = [int(id.removeprefix("call_")) % 2 for id in found]
    assert (agents.count(0), agents.count(1)) == (5, 5)
    assert sample(calls(3), DAY, 5) == sample(calls(3), DAY, 50)


def test_sample_is_the_same_in_any_order():
    assert sample(calls(40), DAY, 5) == sample(calls(40)[::-1], DAY, 5)


def test_later_calls_replace_few_of_a_sample():
    before, after = sample(calls(200, 1), DAY, 10), sample(calls(220, 1), DAY, 10)
    assert len({*before} & {*after}) >= 7


def test_another_day_has_another_sample():
    assert sample(calls(200, 1), DAY, 10) != sample(calls(200, 1), date(2026, 5, 13), 10)


def test_sample_is_uniform():
    days = [date.fromordinal(DAY.toordinal() + n) for n in range(400)]
    chosen = [id for day in days for id in sample(calls(20, 1), day, 5)]
    # 2,000 of 20 calls: 100 each, with a standard deviation of 9.
    assert all(60 < chosen.count(f"call_{n}") < 140 for n in range(20))


@pytest.mark.parametrize("per", ["", "0", "x", "-1", "99999999999", "²"])
@pytest.mark.parametrize("day", ["soon", "0001-01-01", "9999-12-31"])
def test_invalid_parameters_give_a_default_queue(day, per):
    queue = parse_queue({"day": day, "per": per}, DAY)
    assert queue.day == DAY
    assert 1 <= queue.per_agent <= 100


@pytest.fixture
def get(settings, store):
    """Get a page as the reviewer Rita; there are 12 calls of two agents, and two that do not
    count."""
    add_users(settings.database_path, {"rita": "reviewer", "max": "masked"})
    for n in range(12):
        analysis = {"call_successful": n % 3 > 0}
        stored(
            store,
            simple(
                f"call_{n:02}",
                agent_id=f"agent_{n % 2}",
                agent_version=1,
                start_timestamp=START + n * HOUR_MS,
                call_analysis=analysis,
            ),
        )
    stored(store, simple("call_failed", disconnection_reason="dial_failed"))
    stored(store, simple("call_now", call_status="ongoing", disconnection_reason=None))
    with visiting(settings, user="rita") as get:
        yield get


def annotate(store, call_id, kind, value, author="rita"):
    id = reviewing.annotation_id(kind, author)
    row = Annotation(call_id, id, kind, None, None, None, value, author, 5, 5)
    reviewing.write_annotations(store, [row])


def shown(page):
    return re.findall(r'class="open" id="\w+" href="/-/call/(\w+)\?queue=([^"]+)"', page.text)


def test_queue_of_day_leads_through_its_calls(get):
    page = get("/-/review?per=3")
    assert 'name="day" value="2026-05-12"' in page.text
    assert len(shown(page)) == 6
    assert shown(get("/-/review?day=2026-05-12&per=3")) == shown(page)
    (first, query), (second, _), *_ = shown(page)
    call = get(f"/-/call/{first}?queue={query}").text
    assert "1 of 6" in call
    assert re.findall(r'rel="next" href="/-/call/(\w+)\?queue=', call) == [second]
    assert 'aria-label="Queue"' not in get(f"/-/call/call_failed?queue={query}").text


def test_assigned_calls_are_a_queue(get, store):
    for call_id, user in (("call_03", "rita"), ("call_04", "admin")):
        annotate(store, call_id, "assignee", user)
    assert [id for id, _ in shown(get("/-/review?mine=1"))] == ["call_03"]


def test_assigned_chats_are_listed_below(get, store):
    for n in range(2):
        chat = {"chat_id": f"chat_{n}", "agent_id": "agent_1", "chat_status": "ended"}
        stored(store, {"event": "chat_ended", "chat": chat | {"start_timestamp": START}})
    annotate(store, "chat_0", "assignee", "rita")
    annotate(store, "chat_1", "assignee", "admin")
    annotate(store, "chat_0", "verdict", "bad", author="max")
    page = get("/-/review?mine=1").text
    assert re.findall(r'href="/-/chat/(\w+)">([^<]+)<', page) == [("chat_0", "Dental, ")]
    assert '<span class="pill bad">Bad <small>max</small>' in page
    assert "/-/chat/" not in get("/-/review").text


def test_reviewed_calls_stay_and_are_counted(get, store):
    before = shown(get("/-/review"))
    annotate(store, before[0][0], "verdict", "good")
    page = get("/-/review")
    assert shown(page) == before
    assert f"1 of {len(before)} reviewed" in page.text


def test_agreement_has_wilsons_interval(get, store):
    # Retell's: not successful are 0, 3, 6, 9. People: good, but 3 and 6.
    for n in range(12):
        annotate(store, f"call_{n:02}", "verdict", "bad" if n in (3, 6) else "good")
    annotate(store, "call_01", "verdict", "bad", author="model:judge")
    page = get("/-/review").text
    rows = re.findall(r"<tr><th scope=\"row\">Dental <small>v1</small>(.*?)</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in rows]
    # Agents 0 (0, 2, ... 10) and 1 (1, 3, ... 11): 5 of 6 agree each, as 0 and 9 do not.
    # Wilson's interval of 5 of 6: 43.6 % to 97.0 %.
    expected = ["6", "83 % <small>44 to 97 %</small>", "0", "1"]
    assert cells == [expected, expected]


def test_agreement_counts_chats(get, store):
    # Retell's of the three chats: yes, no, none.
    for number, successful in enumerate((True, False, None)):
        chat = {"chat_id": f"chat_{number}", "agent_id": "agent_of_chats", "version": 2}
        chat |= {"chat_status": "ended", "chat_analysis": {"chat_successful": successful}}
        stored(store, {"event": "chat_analyzed", "chat": chat})
        annotate(store, f"chat_{number}", "verdict", "good")
    page = get("/-/review").text
    [row] = re.findall(r"agent_of_chats <small>v2</small>(.*?)</tr>", page, re.DOTALL)
    # Wilson's interval of 1 of 2: 9.45 % to 90.55 %.
    cells = ["2", "50 % <small>9 to 91 %</small>", "0", "1"]
    assert re.findall(r"<td>(.*?)</td>", row) == cells


def test_newest_verdict_of_a_call_counts(get, store):
    annotate(store, "call_01", "verdict", "bad")
    later = Annotation("call_01", "z", "verdict", None, None, None, "good", "rob", 6, 6)
    reviewing.write_annotations(store, [later])
    assert "100 % <small>" in get("/-/review").text


def test_masked_readers_have_no_buttons(settings, get):
    with visiting(settings, user="max") as get_masked:
        page = get_masked("/-/review").text
    assert 'name="verdict"' not in page
    assert "call_0" in page


def test_saved_review_returns_to_queue_or_list(get):
    (first, query), *_ = shown(get("/-/review?per=3"))
    for kept in (f"queue={query}", "list=reviewed%3Dno"):
        page = get(f"/-/call/{first}?{kept}").text
        assert f'name="next" value="/-/call/{first}?{kept}#review"' in page
    assert 'name="next"' not in get(f"/-/call/{first}").text
