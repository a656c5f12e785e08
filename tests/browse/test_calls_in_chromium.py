"""Tasks on the page of calls in a real browser, counted in interactions and loaded pages."""

import csv
import re
import zipfile
from contextlib import closing

import pytest

from receiver.store import Store, migrate
from tests.support import running
from tests.support.browsing import NEEDS_BROWSER, PASSWORD, START, log_in, simple
from tests.support.days import day, deliver
from tests.support.storing import stored

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of a Datasette with a made-up day and a call in Japanese."""
    path = tmp_path_factory.mktemp("calls") / "retell.db"
    migrate(path, timezone="UTC")
    with closing(Store(path)) as store:
        deliver(store, day(2, day_start_ms=START, calls=60))
        stored(store, simple("call_ja", ("user", "明日の予約をお願いします。")), at=START)
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
        self.page.fill(f"main input[name={name}]", text)

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
    person.start("/-/calls?since=2026-05-01&until=2026-05-31")
    person.choose("success", label="Not successful")
    person.follow(".apply button")
    with person.page.expect_download() as download:
        person.click(".downloads >> text=XLSX")
    assert person.interactions <= 4
    with zipfile.ZipFile(download.value.path()) as book:
        sheet = book.read("xl/worksheets/sheet1.xml").decode()
    assert sheet.count("<row ") == person.count + 1
    with person.page.expect_download() as download:
        person.click(".downloads >> text=CSV")
    with download.value.path().open(encoding="utf-8", newline="") as lines:
        assert len(list(csv.DictReader(lines))) == person.count


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


@pytest.mark.slow
def test_all_calls_of_a_number_take_one_interaction(person):
    person.page.goto("/-/calls?direction=inbound")
    number = re.search(r"\+[0-9]{7,}", person.page.inner_text("table.list"))[0]
    person.start("/")
    person.page.fill("header input[name=q]", number)
    with person.page.expect_navigation():
        person.page.press("header input[name=q]", "Enter")
    assert person.count >= 1
    shown = person.page.locator("td.number").all_inner_texts()
    assert all(number in text for text in shown)


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
