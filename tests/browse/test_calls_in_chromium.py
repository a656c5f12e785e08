"""Tasks on the page of calls in a real browser, counted in interactions and loaded pages."""

import csv
import zipfile
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from receiver import clock
from receiver.store import Store, migrate
from tests.support import running
from tests.support.browsing import (
    NEEDS_BROWSER,
    PASSWORD,
    START,
    log_in,
    play,
    simple,
    tone,
    until,
)
from tests.support.days import day, deliver
from tests.support.recording import LINKS
from tests.support.storing import stored

pytestmark = NEEDS_BROWSER
NUMBER = "+33170189977"


def recent_calls(now_ms):
    """Calls of one number: three of yesterday, and five of last month, of which three failed."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    noon = now.replace(hour=12, minute=0, second=0, microsecond=0)
    yesterday = noon - timedelta(days=1)
    last_month = noon.replace(day=1) - timedelta(days=10)
    for name, at, is_successful, sentiment in (
        ("happy", yesterday, False, "Positive"),
        ("worst", yesterday, False, "Negative"),
        ("unhappy", yesterday + timedelta(hours=1), True, "Negative"),
        *((f"failed_{n}", last_month, False, "Neutral") for n in range(3)),
        *((f"good_{n}", last_month, True, "Neutral") for n in range(2)),
    ):
        yield simple(
            f"call_{name}",
            ("user", "Hello."),
            from_number=NUMBER,
            start_timestamp=int(at.timestamp() * 1000),
            call_analysis={"call_successful": is_successful, "user_sentiment": sentiment},
            **LINKS,
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of a Datasette with a made-up day and a call in Japanese."""
    path = tmp_path_factory.mktemp("calls") / "retell.db"
    migrate(path, timezone="UTC")
    with closing(Store(path)) as store:
        deliver(store, day(2, day_start_ms=START, calls=60))
        stored(store, simple("call_ja", ("user", "明日の予約をお願いします。")), at=START)
        for call in recent_calls(clock.now_ms()):
            stored(store, call, at=call["call"]["start_timestamp"])
    with running.site(path, PASSWORD) as url:
        yield url


class Person:
    """Somebody at a page, whose interactions and loaded pages are counted."""

    def __init__(self, page):
        self.page, self.interactions, self.loads = page, 0, 0
        page.on("load", self._count_load)

    def _count_load(self, _):
        self.loads += 1

    def start(self, path):
        self.page.goto(path)
        self.interactions = self.loads = 0

    def choose(self, name, **option):
        self.interactions += 1
        self.page.select_option(f"select[name={name}]", **option)

    def fill(self, name, text):
        self.interactions += 1
        self.page.fill(f"main :is(input, textarea)[name={name}]", text)

    def click(self, selector):
        self.interactions += 1
        self.page.click(selector)

    def follow(self, selector):
        """Click, and wait for the page behind it."""
        with self.page.expect_navigation():
            self.click(selector)

    @property
    def count(self):
        """Calls that the page says it shows."""
        return int(self.page.inner_text(".totals strong").replace(",", ""))


@pytest.fixture(params=[True], ids=["javascript"])
def person(site, chromium, request):
    context = chromium.new_context(base_url=site, java_script_enabled=request.param)
    page = context.new_page()
    log_in(page)
    yield Person(page)
    context.close()


@pytest.mark.parametrize("person", [True, False], indirect=True, ids=["javascript", "without"])
def test_five_filters_take_one_page_load(person):
    person.start("/-/calls")
    everything = person.count
    person.choose("outcome", value="user_hangup")
    person.choose("success", label="Successful")
    person.choose("direction", label="Inbound")
    person.click(".more-filters summary")
    person.fill("min_duration", "0:30")
    person.fill("since", "2026-05-12")
    person.follow(".apply button")
    assert (person.interactions, person.loads) == (7, 1)
    assert 0 < person.count < everything
    assert person.page.locator(".chips li").count() == 6
    assert person.page.url.endswith(
        "/-/calls?since=2026-05-12&outcome=user_hangup&success=yes&direction=inbound"
        "&min_duration=0%3A30"
    )
    person.follow(".chips a >> nth=0")
    assert "since" not in person.page.url


@pytest.mark.slow
def test_failed_calls_of_a_month_are_a_spreadsheet(person):
    person.start("/-/calls")
    person.choose("period", label="Last month")
    person.choose("success", label="Not successful")
    person.follow(".apply button")
    with person.page.expect_download() as download:
        person.click(".downloads >> text=XLSX")
    assert (person.interactions, person.loads) == (4, 1)
    with zipfile.ZipFile(download.value.path()) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert sheet.count("<row ") == person.count + 1
    with person.page.expect_download() as download:
        person.click(".downloads >> text=CSV")
    with download.value.path().open(encoding="utf-8", newline="") as lines:
        calls = list(csv.DictReader(lines))
    assert len(calls) == person.count
    ids = {call["call_id"] for call in calls}
    assert ids - {"call_happy", "call_worst"} == {f"call_failed_{n}" for n in range(3)}


@pytest.mark.slow
def test_worst_unhappy_call_is_played_in_three(person):
    sound = tone(3)
    person.page.route(LINKS["recording_url"], lambda route: play(route, sound))
    person.start("/")
    person.follow("text=Negative calls of yesterday")
    assert person.count == 2
    person.follow("td.time a >> nth=0")
    assert "/-/call/call_worst?" in person.page.url
    person.click(".player [data-do=play]")
    until(person.page, "document.querySelector('audio').currentTime > 0.1")
    assert (person.interactions, person.loads) == (3, 2)


@pytest.mark.slow
def test_call_is_reviewed_with_a_note_in_three(person):
    person.start("/-/call/call_good_0")
    person.fill("note", "Promise a refund.")
    person.click(".verdicts .bad")
    person.follow(".reviewing >> text=Save review")
    assert (person.interactions, person.loads) == (3, 1)
    remarks = person.page.inner_text("#review .remarks")
    assert "Bad" in remarks
    assert "Promise a refund." in remarks
    person.start("/-/calls?reviewed=yes")
    assert person.count == 1


@pytest.mark.slow
def test_view_is_saved_in_two_interactions(person):
    person.start("/-/calls?sentiment=negative")
    person.fill("name", "Unhappy")
    person.follow(".save-view button")
    assert person.interactions == 2
    person.start("/")
    person.click(".views summary")
    person.follow(".views >> text=Unhappy")
    assert person.interactions == 2
    assert person.page.url.endswith("/-/calls?sentiment=negative")
    person.follow("text=Remove view")
    assert person.page.locator(".views >> text=Unhappy").count() == 0


def test_every_width_shows_all_columns(person):
    for width in (390, 720, 1024, 1190, 1280):
        person.page.set_viewport_size({"width": width, "height": 900})
        person.start("/-/calls")
        assert person.page.evaluate("document.documentElement.scrollWidth") <= width
        agent = person.page.locator("td.agent:has(small) >> nth=0").bounding_box()
        assert agent["width"] > 80, width


def test_long_agent_name_leaves_its_version_visible(person):
    person.start("/-/calls")
    cell = person.page.locator("td.agent:has(small) >> nth=0")
    cell.locator("span").evaluate("name => name.textContent = 'A long name '.repeat(9)")
    whole, version = (part.bounding_box() for part in (cell, cell.locator("small")))
    assert version["x"] + version["width"] <= whole["x"] + whole["width"]


@pytest.mark.slow
def test_all_calls_of_number_take_one_click(person):
    person.start("/-/call/call_worst")
    person.follow(".neighbours p:has-text('This number') >> text=all 8 calls")
    assert (person.interactions, person.loads) == (1, 1)
    assert person.count == 8
    numbers = person.page.locator("td.number").all_inner_texts()
    assert len(numbers) == 8
    assert all(NUMBER in text for text in numbers)


@pytest.mark.slow
def test_list_leads_from_call_to_call(person):
    person.start("/-/calls?q=予約")
    assert person.count >= 1
    assert person.page.inner_text("mark >> nth=0") == "予約"
    person.start("/-/calls?direction=inbound")
    person.follow("td.time a >> nth=0")
    person.follow("nav.queue a[rel=next]")
    person.page.keyboard.press("k")
    person.page.wait_for_selector("nav.queue a[rel=next]")
    person.follow("nav.queue >> text=list of calls")
    assert person.page.url.endswith("/-/calls?direction=inbound")


@pytest.mark.slow
@pytest.mark.parametrize("height", [900])
def test_twelve_calls_fit_on_a_screen(person, height):
    person.page.set_viewport_size({"width": 1280, "height": height})
    for path in ("/-/calls", "/-/calls?success=yes&direction=inbound"):
        person.start(path)
        boxes = [row.bounding_box() for row in person.page.locator("table.list tbody").all()]
        assert sum(box["y"] + box["height"] <= height for box in boxes) >= 12


@pytest.mark.parametrize("person", [True, False], indirect=True, ids=["javascript", "without"])
def test_phone_folds_filters_and_shows_chips(person):
    page = person.page
    page.set_viewport_size({"width": 390, "height": 844})
    person.start("/-/calls?q=the&success=no&direction=inbound&sort=-cost")
    assert page.locator(".chips li").count() == 4
    assert page.locator(".chips").is_visible()
    assert page.inner_text(".searching .fold") == "Filters (2)"
    assert not page.locator(".apply button").is_visible()
    head = page.locator("table.list thead").bounding_box()
    # All columns to sort by, in two lines.
    assert head["height"] < 50
    assert head["y"] + head["height"] < 400
    person.click(".searching .fold summary")
    person.choose("direction", value="")
    person.follow(".apply button")
    assert page.url.endswith("/-/calls?q=the&success=no&sort=-cost")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert not page.locator(".fold >> nth=0").is_visible()
    assert page.locator(".apply button").is_visible()


@pytest.mark.parametrize("person", [True, False], indirect=True, ids=["javascript", "without"])
def test_phone_shows_downloads_when_asked(person):
    page = person.page
    page.set_viewport_size({"width": 390, "height": 844})
    person.start("/-/calls?success=no")
    shown = page.locator(".save-view, .downloads")
    assert [box.is_visible() for box in shown.all()] == [False, False]
    totals, head = (page.locator(s).bounding_box() for s in (".totals", "table.list thead"))
    assert head["y"] - totals["y"] < 40
    assert page.locator("td.success >> nth=0").inner_text() == "Not successful"
    person.click(".list-head .fold summary")
    assert [box.is_visible() for box in shown.all()] == [True, True]
    page.set_viewport_size({"width": 1280, "height": 900})
    person.start("/-/calls?success=no")
    assert [box.is_visible() for box in shown.all()] == [True, True]


def test_phone_shows_cost_beside_duration(person):
    person.page.set_viewport_size({"width": 390, "height": 844})
    person.start("/-/calls?success=yes")
    lines = person.page.locator("tr.line:has(.duration:not(:empty)):has(.cost:not(:empty))").all()
    assert len(lines) > 5
    for line in lines:
        duration, cost = (line.locator(name).bounding_box() for name in (".duration", ".cost"))
        assert duration["y"] == pytest.approx(cost["y"], abs=1)
