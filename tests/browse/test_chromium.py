"""The pages in a real browser, served by the real `callhouse browse`."""

import re

import pytest

from receiver.browse.charts import DASHBOARDS
from tests.support.browsing import (
    NEEDS_BROWSER,
    PASSWORD,
    follow,
    open_figures,
    until,
    wait_for_charts,
)

pytestmark = NEEDS_BROWSER


def time_of(page):
    return page.eval_on_selector("audio", "player => player.currentTime")


def test_call_is_found_opened_and_played(page, site):
    page.fill("header input[name=q]", '"porcelain crown"')
    page.press("header input[name=q]", "Enter")
    assert page.inner_text("mark") == "porcelain crown"
    follow(page, ".gist a")
    assert "/-/call/call_spoken?list=" in page.url
    assert page.url.endswith("#turn-1")

    page.click(".said >> text=porcelain")
    until(page, "document.querySelector('audio').currentTime > 5.1")
    assert time_of(page) < 9
    page.wait_for_selector(".spoken")
    page.eval_on_selector("audio", "player => player.pause()")
    page.eval_on_selector("audio", "player => { player.currentTime = 2.6 }")
    until(page, "document.querySelector('.spoken')?.textContent === 'would'")
    assert float(page.get_attribute(".playhead", "x1").rstrip("%")) == pytest.approx(2.6 / 0.12)

    page.click("#turn-0 .head .at")
    until(page, "document.querySelector('audio').currentTime < 2")
    assert page.messages == []
    assert {*page.requests} == {site, "https://recordings.example"}


def test_click_on_the_bar_seeks_the_recording(page):
    page.goto("/-/call/call_spoken")
    until(page, "document.querySelector('audio').readyState > 0")
    box = page.query_selector(".bar svg").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 100)
    until(page, "document.querySelector('audio').currentTime >= 5.9")
    assert time_of(page) < 9


def test_tool_unfolds_beneath_its_word(page):
    page.goto("/-/call/call_spoken")
    assert page.inner_text("a.mark") == "book"
    word = page.eval_on_selector("a.mark", "mark => mark.previousElementSibling.textContent")
    assert word == "book"
    page.click("#tool-2 summary")
    assert "Arguments" in page.inner_text("#tool-2")


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_everything_can_be_read(page):
    page.goto("/-/call/call_spoken")
    assert "porcelain" in page.inner_text("#turn-1")
    page.click("#tool-2 summary")
    assert page.is_visible("#tool-2 dl")
    assert page.is_visible("audio")


PAGES = (
    "/-/questions",
    "/",
    "/-/calls?q=crown&agent=Dental",
    "/-/calls?min_cost=0.01",
    "/-/review",
    "/-/status",
    "/-/alerts",
    "/-/retention",
    "/-/call/call_spoken",
    "/-/chat/chat_spoken?list=kind%3Dchat",
    "/retell/call_log?_size=10",
    "/retell/daily_summary",
    "/retell/calls/call_spoken",
    "/-/dashboards",
    "/-/dashboards/volume",
    "/-/dashboards/versions",
    "/retell",
    "/retell?sql=select+call_id+from+calls+where+agent_name+=+:agent&agent=Dental",
)
# Those with parts that the others have too.
MAIN_PAGES = (
    "/",
    "/-/calls?q=crown&agent=Dental",
    "/-/review",
    "/-/call/call_spoken",
    "/-/dashboards/volume",
    "/retell/call_log?_size=10",
    "/retell?sql=select+call_id+from+calls+where+agent_name+=+:agent&agent=Dental",
)
# Pages that say why there is no other: the status, and the address.
ERRORS = (
    (404, "/nowhere"),
    (400, "/retell?sql=selec+1"),
    (400, "/retell?sql=select+*+from+nowhere"),
    (403, "/retell_masked?sql=select+1"),
)
# What looks like one of the pages above.
MORE_PAGES = [f"/-/dashboards/{name}" for name in DASHBOARDS if name not in ("volume", "versions")]


def violations(page, **options):
    """What axe finds. Not preloading: its loading of stylesheets is what the policy refuses."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, None, {"preload": False, **options}).response["violations"]
    return [(v["id"], [node["html"] for node in v["nodes"]]) for v in found]


def check_pages(page, paths):
    for path in paths:
        page.goto(path)
        wait_for_charts(page)
        open_figures(page)
        assert page.messages == [], path
        assert violations(page) == [], path
        page.messages.clear()


def test_main_pages_pass_axe_with_silent_console(page):
    check_pages(page, MAIN_PAGES)


@pytest.mark.slow
def test_other_pages_pass_axe_with_silent_console(page):
    check_pages(page, [path for path in (*PAGES, *MORE_PAGES) if path not in MAIN_PAGES])
    for status, path in ERRORS:
        assert page.goto(path).status == status
        assert violations(page) == [], path


def test_failed_query_is_corrected_in_its_editor(page):
    page.goto(
        "/retell?sql=selec+count(*)+as+calls+from+calls+where+agent_name+=+:agent&agent=Dental"
    )
    assert page.get_attribute(".CodeMirror textarea", "aria-label") == "SQL query"
    assert page.input_value("#qp1") == "Dental"
    page.click(".CodeMirror")
    page.keyboard.press("Control+Home")
    for _ in "selec":
        page.keyboard.press("ArrowRight")
    page.keyboard.type("t")
    follow(page, "form.sql input[type=submit]")
    assert page.inner_text("td.col-calls") == "1"


@pytest.mark.slow
@pytest.mark.parametrize("page", [{"color_scheme": "dark"}], indirect=True)
def test_dark_pages_have_enough_contrast(page):
    for path in (*PAGES, *MORE_PAGES, *(path for _, path in ERRORS)):
        page.goto(path)
        wait_for_charts(page)
        open_figures(page)
        assert violations(page, runOnly=["color-contrast"]) == [], path


def check_widths(page, paths):
    for path in paths:
        page.goto(path)
        wait_for_charts(page)
        beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(beyond) <= 0, path


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_main_pages_fit_on_a_phone(page):
    check_widths(page, MAIN_PAGES)


@pytest.mark.slow
@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_all_pages_fit_on_a_phone(page):
    check_widths(page, (*PAGES, *MORE_PAGES, *(path for _, path in ERRORS)))


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_legends_fit_their_charts_on_a_phone(page):
    for path in ("/-/dashboards/flow", "/-/dashboards/quality"):
        page.goto(path)
        wait_for_charts(page)
        beyond = page.eval_on_selector_all(
            ".drawing .role-legend text",
            """all => all.filter(text => text.getBoundingClientRect().right
                > text.closest("svg").getBoundingClientRect().right + 1).map(t => t.textContent)""",
        )
        assert beyond == [], path


def test_datasettes_own_pages_work_under_the_policy(page):
    page.goto("/retell?sql=select+count(*)+from+calls")
    page.wait_for_selector(".CodeMirror")
    page.wait_for_selector("#sql-format")
    page.goto("/retell/call_log")
    page.click("th[data-column=agent] svg")
    page.wait_for_selector(".dropdown-menu >> text=Sort descending")
    page.click("text=Filter and sort")
    page.select_option("select[name=_filter_column]", "agent")
    page.fill("input[name=_filter_value]", "Dental")
    follow(page, "input[value=Apply]")
    assert page.locator("tbody tr").count() == 1
    for path in ("/retell", "/retell/tool_calls", "/retell/media", "/-/logout", "/-/metadata"):
        page.goto(path)
    assert page.messages == []


def test_a_table_is_downloaded_as_csv(page):
    page.goto("/retell/call_log")
    with page.expect_download() as download:
        page.check("input[name=_dl]")
        page.click("input[value='Export CSV']")
    lines = download.value.path().read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("call_id,started_at,")
    assert any(line.startswith("call_spoken,2026-05-12T00:00:00Z,Dental") for line in lines)


def test_anonymous_visitor_is_sent_to_login(site, chromium):
    context = chromium.new_context(base_url=site)
    page = context.new_page()
    for path in (*PAGES, *MORE_PAGES):
        page.goto(path)
        assert page.url.startswith(f"{site}/-/login")
        assert "+14155550123" not in page.content()
    context.close()


@pytest.mark.parametrize("javascript", [True, False])
def test_login_redirects_to_page_and_fragment(site, chromium, javascript):
    context = chromium.new_context(base_url=site, java_script_enabled=javascript)
    page = context.new_page()
    asked = "/-/call/call_spoken?x=a%26b#turn-1"
    page.goto(asked)
    assert page.url.startswith(f"{site}/-/login?next=")
    page.wait_for_selector("#id_username:focus")
    page.keyboard.type("admin")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Invalid username or password")
    page.wait_for_selector("#id_password:focus")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("#turn-1")
    assert page.url == site + asked
    page.click("header summary:has-text('admin')")
    page.click("header button:text-is('Log out')")
    page.wait_for_selector("#id_password")
    assert page.url == f"{site}/-/login"
    page.goto("/")
    assert page.url == f"{site}/-/login"
    context.close()


# Home


def test_month_against_month_takes_one_click(page):
    page.goto("/")
    assert "compared with the 7 days before" in page.inner_text("h1")
    page.click("nav.switch >> text=30 days")
    assert "compared with the 30 days before" in page.inner_text("h1")
    assert page.locator(".figures > div").count() == 8


def test_figure_of_home_leads_to_its_calls(page):
    page.goto("/")
    calls = page.inner_text(".figures .value >> nth=0")
    follow(page, ".figures dt a:text-is('Calls')")
    assert "/-/calls?" in page.url
    assert f"{calls} call" in page.inner_text("main")


# Without personal data


@pytest.mark.slow
@pytest.mark.parametrize("page", [{"user": "max"}], indirect=True)
def test_masked_reader_sees_every_page(page):
    page.goto("/")
    assert page.get_attribute("nav >> text=Calls", "href") == "/-/calls"
    page.goto("/-/call/call_spoken")
    assert "•••23" in page.inner_text("h1")
    assert page.locator("audio").count() == 0
    for path in (re.sub(r"^/retell\b", "/retell_masked", path) for path in (*PAGES, *MORE_PAGES)):
        page.goto(path)
        wait_for_charts(page)
        content = page.content()
        assert "porcelain" not in content
        assert "4155550123" not in content
        assert page.messages == [], path
    assert page.goto("/retell/call_log").status == 403
