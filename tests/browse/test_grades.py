"""What a model and people answered about calls: on the page of a call, and on /-/grades."""

import json
import re
from dataclasses import replace
from html import unescape
from math import sqrt
from statistics import fmean, stdev
from zoneinfo import ZoneInfo

import pytest

from receiver.browse.pages.grades import QUARTER_MS, costs_of
from receiver.jobs.grading import find, grade
from receiver.jobs.worker import Run
from receiver.store.reviewing import Annotation, answer_id, write_annotations
from tests.support.browsing import browsing, fetched
from tests.support.grading import (
    ADDRESS,
    DAY,
    MODEL,
    NOW,
    call,
    chat,
    registered,
    text_of,
    with_grading,
)
from tests.support.posting import cookies, posted, send
from tests.support.storing import rows

# Datasette serves files.
pytestmark = pytest.mark.sqlite
POLITE = {"name": "polite", "ask": "How polite was the agent?", "answer": "1-5"}
ROLES = {"rita": "reviewer", "rob": "reviewer", "jane": "reader", "max": "masked"}
REASON = "The agent read out 5 Elm Street."
# Call -> the model's answers about the address and politeness.
ANSWERS = {f"call_{n}": ("yes" if n % 3 else "no", str(1 + n % 5)) for n in range(8)}


@pytest.fixture
def asked(settings):
    return with_grading(
        settings, ADDRESS, POLITE,
        price_per_million_input_tokens=2, price_per_million_output_tokens=10,
    )  # fmt: skip


@pytest.fixture
def served(asked, store):
    """Eight graded calls: two of a newer version. One answer did not fit."""
    for n, call_id in enumerate(ANSWERS):
        call(store, call_id, ("agent", f"This is {call_id}."), agent_version=n // 6)
    call(store, "odd", ("agent", "This is odd."))

    def answer(prompt):
        call_id = re.search(r"This is (\w+)\.", prompt)[1]
        is_address = ADDRESS["ask"] in prompt
        if call_id == "odd":
            return "?" if is_address else text_of("3", REASON)
        return text_of(ANSWERS[call_id][0 if is_address else 1], REASON)

    with registered(answer):
        found = find(asked, asked.file.grading.questions, DAY, now_ms=NOW)
        # Now, so that its cost is of the last days.
        grade(Run(asked, store), found)
    with browsing(asked, ROLES) as served:
        yield served


@pytest.fixture
def get(served):
    def get(user, path="/-/grades"):
        answer = fetched(served, path, user)
        assert answer.status_code == 200
        return answer.text

    return get


@pytest.fixture
def post(served):
    def post(user, entity_id="call_1", **form):
        return posted(served, user, "/-/review", **{"entity_id": entity_id, **form})

    return post


def text(html):
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_call_shows_grades_apart_from_people(get, post):
    post("rita", verdict="bad")
    page = get("jane", "/-/call/call_1").partition('id="review"')[2].partition("</section>")[0]
    people, _, grades = page.partition('class="grades"')
    assert REASON not in people
    assert MODEL not in people
    assert "rita" not in grades
    assert f"{ADDRESS['ask']} Yes {REASON} {MODEL}" in text(grades)
    assert 'href="/-/call/call_1?at=0#turn-0"' in grades
    # Nor are they among the remarks about a turn.
    turn = get("jane", "/-/call/call_1").partition('id="turn-0"')[2].partition('id="review"')[0]
    assert REASON not in turn


def test_masked_reader_sees_answers_without_reasons(get):
    page = get("max", "/-/call/call_1")
    assert f"{ADDRESS['ask']} Yes" in text(page)
    assert REASON not in page


def test_share_of_yes_has_wilsons_interval(get):
    section = get("jane").partition(ADDRESS["ask"])[2].partition("</section>")[0]
    values = [ANSWERS[f"call_{n}"][0] == "yes" for n in range(6)]
    p, n, z = fmean(values), 6, 1.96
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    low, high = round(100 * (centre - reach)), round(100 * (centre + reach))
    assert f"Dental v0 6 {round(100 * p)} % {low} to {high} %" in text(section)
    assert "Dental v1 2" in text(section)


def test_mean_of_a_scale_has_its_interval(get):
    section = get("jane").partition(POLITE["ask"])[2].partition("</section>")[0]
    values = [int(ANSWERS[f"call_{n}"][1]) for n in range(6)]
    reach = 1.96 * stdev(values) / sqrt(6)
    low, high = fmean(values) - reach, fmean(values) + reach
    assert f"Dental v0 6 {fmean(values):.1f} {low:.1f} to {high:.1f}" in text(section)


def test_answers_are_linked_call_by_call(get):
    links = re.findall(r'href="([^"]+)">The answers, call by call', get("jane"))
    assert len(links) == 2
    for link in links:
        path, _, query = unescape(link).partition("?")
        found = json.loads(get("jane", f"{path}.json?{query}&_shape=array"))
        name = found[0]["name"]
        answers = {id: each[name == "polite"] for id, each in ANSWERS.items()}
        if name == "polite":
            answers["odd"] = "3"
        assert {row["entity_id"]: row["value"] for row in found} == answers


def test_people_answer_the_same_questions(get, post, db):
    assert ADDRESS["ask"] in get("rita", "/-/call/call_1").partition('class="questions"')[2]
    assert 'class="questions"' not in get("jane", "/-/call/call_1")
    assert post("rita", **{"answer.address": "no", "answer.polite": ""}).status_code == 302
    assert post("rita", **{"answer.address": "yes"}).status_code == 302
    assert post("rita", **{"answer.address": "maybe"}).status_code == 400
    own = "SELECT name, value, position FROM annotations WHERE author = 'rita'"
    assert rows(db, own) == [("address", "yes", None)]
    page = get("rita", "/-/call/call_1")
    assert '<option value="yes" selected>' in page
    assert "Address: Yes" in page


def test_agreement_counts_the_newest_answer_of_people(get, post):
    assert "No person has answered this" in get("jane")
    people = {"call_0": "no", "call_1": "no", "call_2": "yes", "call_3": "yes"}
    post("rob", "call_2", **{"answer.address": "no"})
    for call_id, answer in people.items():
        post("rita", call_id, **{"answer.address": answer})
    # About a call without an answer of the model.
    post("rita", "odd", **{"answer.address": "yes"})
    same = sum(ANSWERS[call_id][0] == answer for call_id, answer in people.items())
    page = text(get("jane"))
    assert f"about 4 of these calls: {25 * same} % with the same answer" in page
    assert "The model alone said yes for 1, people alone for 1." in page


def test_answers_to_an_earlier_text_do_not_count(asked, store, get, post):
    earlier = replace(asked.file.grading.questions[0], ask="Another text?")
    for author in ("rita", f"model:{MODEL}"):
        id = answer_id("score", author, earlier)
        row = Annotation("call_1", id, "score", None, None, "address", "no", author, 5, 5)
        write_annotations(store, [row])
    section = get("jane").partition(ADDRESS["ask"])[2].partition("</section>")[0]
    assert "No person has answered this" in section
    assert "Dental v0 6" in text(section)


def test_cost_is_the_sum_of_every_request(served, get, db):
    usage = [
        json.loads(value) for (value,) in rows(
            db, "SELECT value FROM annotations WHERE kind = 'usage'"
        )
    ]  # fmt: skip
    assert len(usage) == 18
    tokens = [sum(each[f"{kind}_tokens"] for each in usage) for kind in ("input", "output")]
    dollars = (tokens[0] * 2 + tokens[1] * 10) / 1e6
    page = text(get("jane"))
    assert f"Total 18 1 {tokens[0]:,} {tokens[1]:,} ${dollars:.4f}" in page


def test_cost_is_by_local_day_and_question(asked):
    # Midnight in Kolkata is 18:30 UTC.
    day = 1_780_012_800_000  # 2026-05-29 00:00 UTC
    usage = [
        {"name": name, "author": author, "quarter": (day + minutes * 60_000) // QUARTER_MS,
         "requests": 2, "problems": 1, "input_tokens": 1_000_000, "output_tokens": None}
        for name, author, minutes in (
            ("address", f"model:{MODEL}", -345), ("address", f"model:{MODEL}", -330),
            ("address", f"model:{MODEL}", 0), ("address", "model:other", 0),
        )
    ]  # fmt: skip
    found = costs_of(usage, asked.file.grading, ZoneInfo("Asia/Kolkata"))
    assert [(f"{each.day}", each.model, each.requests, each.dollars) for each in found] == [
        ("2026-05-29", "other", 2, None),
        ("2026-05-29", MODEL, 4, 4.0),
        ("2026-05-28", MODEL, 2, 2.0),
    ]


TOLD = {"name": "told", "ask": "Did the agent say the price?", "where": "1 = 0"}
TOLD["where_chats"] = "1 = 1"


@pytest.fixture
def of_chats(settings, store):
    """A question that is for chats, and one for calls; three chats of two versions."""
    asked = with_grading(settings, TOLD, ADDRESS)
    for n in range(3):
        chat(store, f"chat_{n}", ("agent", f"This is {n}."), version=n // 2)
    call(store, "call_1")

    def answer(prompt):
        return text_of("no" if "This is 1." in prompt else "yes", REASON)

    with registered(answer):
        grade(Run(asked, store), find(asked, asked.file.grading.questions, DAY, now_ms=NOW))
    with browsing(asked, ROLES) as served:
        yield served


def test_chats_have_grades_and_their_questions(of_chats, db):
    def get(user, path):
        answer = fetched(of_chats, path, user)
        assert answer.status_code == 200
        return answer.text

    page = get("rita", "/-/chat/chat_0")
    assert f"{TOLD['ask']} Yes {REASON} {MODEL}" in text(page)
    assert 'href="/-/chat/chat_0?at=0#message-0"' in page
    assert 'name="answer.told"' in page
    assert 'name="answer.address"' not in page
    assert REASON not in get("max", "/-/chat/chat_0")
    posted(of_chats, "rita", "/-/review", **{"entity_id": "chat_0", "answer.told": "no"})
    assert "Told: No" in text(get("rita", "/-/chat/chat_0"))
    grades = get("jane", "/-/grades").partition(TOLD["ask"])[2].partition("</section>")[0]
    values = [row[0] for row in rows(db, "SELECT value FROM annotations WHERE kind = 'score'")]
    assert len(values) == 5
    # Chats of Retell do not name their agent, but its call does.
    assert "Dental v0 chats 2 50 % " in text(grades)
    assert "Dental v1 chats 1 100 % " in text(grades)
    assert "People answered this about 1 of these calls and chats: 0 %" in text(grades)


def test_model_is_no_reviewer(served, store, get):
    id = "by a model"
    row = Annotation("call_1", id, "verdict", None, None, None, "bad", f"model:{MODEL}", 5, 5)
    tag = replace(row, annotation_id="tag", kind="tag", name="odd-tag", value=None)
    write_annotations(store, [row, tag])
    calls = "/-/calls.json?day=2026-05-12&"
    for query in ("reviewed=yes", "verdict=bad", "tag=odd-tag"):
        assert "call_1" not in get("jane", calls + query), query
    unreviewed = get("jane", f"{calls}reviewed=no")
    assert '"call_1"' in unreviewed
    assert '"bad"' not in unreviewed
    queue = get("jane", "/-/review?day=2026-05-12&per=20")
    assert "0 of 9 reviewed" in queue
    assert MODEL not in queue
    assert "No call or chat has both a verdict" in queue


def test_page_without_questions_says_so(settings, store):
    with browsing(settings, ROLES) as served:
        pages = [fetched(served, path, "jane").text for path in ("/-/grades", "/-/calls")]
    assert "No model is asked about calls or chats." in pages[0]
    assert "/-/grades" not in pages[1]


def listed(get, query):
    """The calls that the page of calls lists, and those that it downloads, in their order."""
    page = get("jane", f"/-/calls?{query}")
    found = re.findall(r'class="time"><a href="/-/call/(\w+)', page)
    assert f"<strong>{len(found)}</strong> call" in page
    downloaded = json.loads(get("jane", f"/-/calls.json?{query}"))
    assert [row["call_id"] for row in downloaded] == found
    return sorted(found)


def test_calls_are_filtered_by_grade(get, monkeypatch):
    """Of few answers by their ids, of many in the order of the list."""
    yes = sorted(call_id for call_id, (address, _) in ANSWERS.items() if address == "yes")
    for many in (20_000, 2):
        monkeypatch.setattr("receiver.browse.pages.call_list._MANY", many)
        assert listed(get, "grade=address:yes") == yes
        assert listed(get, "grade=address") == sorted(ANSWERS)
        assert listed(get, "grade=polite:3&version=1&agent=agent_1") == ["call_7"]
        assert listed(get, "grade=address:maybe") == []
        assert listed(get, "grade=nothing:yes") == []


def test_grade_is_in_filters_and_chip(get):
    page = get("jane", "/-/calls?grade=polite:3&success=unknown")
    assert '<option value="polite:3" selected>Polite: 3</option>' in page
    assert f'<optgroup label="{POLITE["ask"]}">' in page
    [(url, chip)] = re.findall(
        r'<li><a href="([^"]+)" title="Remove this filter">(Polite.+?) <', page
    )
    assert (url, chip) == ("/-/calls?success=unknown", "Polite: 3")
    assert '<option value="old:yes" selected>' in get("jane", "/-/calls?grade=old:yes")


def test_filter_by_grade_has_pages(get, monkeypatch):
    monkeypatch.setattr("receiver.browse.pages.call_list_page.PAGE_SIZE", 2)
    found, url = [], "/-/calls?grade=address:yes"
    while url:
        page = get("jane", url)
        found += re.findall(r'class="time"><a href="/-/call/(\w+)', page)
        following = re.search(r'rel="next" href="([^"]+)"', page)
        url = following and unescape(following[1])
    assert len(found) == len(set(found)) == sum(a == "yes" for a, _ in ANSWERS.values())


def test_figures_of_grades_lead_to_their_calls(get):
    figures = re.findall(r'<a href="(/-/calls\?[^"]*grade=[^"]+)">(\d+)</a>', get("jane"))
    assert len(figures) > 8
    for url, count in figures:
        assert len(listed(get, unescape(url).partition("?")[2])) == int(count), url


def test_answers_to_earlier_text_are_not_listed(asked, store, get):
    newer = Annotation(
        "call_0", answer_id("score", f"model:{MODEL}", replace(asked.file.grading.questions[0],
        ask="Earlier?")), "score", None, None, "address", "yes", f"model:{MODEL}", NOW, NOW,
    )  # fmt: skip
    write_annotations(store, [newer])
    assert "call_0" not in listed(get, "grade=address:yes")


def test_admin_alone_removes_a_grade(get, post, served, db, caplog):
    def form_of(user):
        page = get(user, "/-/call/call_1").partition('class="grades"')[2]
        return re.findall(r'name="remove" value="(\w+)" aria-label="Remove the answer', page)

    assert form_of("rita") == form_of("jane") == []
    [id, _] = form_of("admin")
    assert post("rita", remove=id).status_code == 403
    without_token = {"entity_id": "call_1", "remove": id}
    answer = send(served, "/-/review", without_token, cookies=cookies(served, "admin"))
    assert answer.status_code == 403
    assert "call_1" in listed(get, "grade=address:yes")
    assert post("admin", remove=id).status_code == 302
    assert "admin: removed score of 'call_1'" in caplog.text
    left = rows(
        db,
        "SELECT kind, value FROM annotations WHERE entity_id = 'call_1' AND name = 'address' "
        "AND removed_at IS NULL",
    )
    # What it cost stays, so it is not asked again.
    assert [kind for kind, _ in left] == ["usage"]
    assert "call_1" not in listed(get, "grade=address:yes")
    assert POLITE["ask"] in text(get("jane", "/-/call/call_1"))
    assert ADDRESS["ask"] not in text(get("jane", "/-/call/call_1"))
