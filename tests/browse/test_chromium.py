"""The pages in a real browser, served by the real `callhouse browse`."""

import re
from contextlib import closing
from math import floor
from urllib.parse import urlencode

import pytest

from receiver.browse.charts import DASHBOARDS
from receiver.store import Store, migrate
from tests.support import running
from tests.support.browsing import (
    NEEDS_BROWSER,
    PASSWORD,
    START,
    add_users,
    log_in,
    play,
    tone,
    until,
)
from tests.support.days import day, deliver
from tests.support.storing import stored

pytestmark = NEEDS_BROWSER
SECONDS = 12
FELT = """
SELECT coalesce(n.label, 'Unknown') AS felt, count(*) AS calls
FROM calls c JOIN analyses a ON a.call_id = c.call_id
LEFT JOIN disconnection_reasons r ON r.reason = c.disconnection_reason
LEFT JOIN (
    SELECT 'Positive' AS label UNION ALL SELECT 'Neutral' UNION ALL SELECT 'Negative'
) n ON lower(n.label) = lower(trim(a.user_sentiment))
WHERE a.user_sentiment IS NOT NULL AND c.start_timestamp IS NOT NULL
    AND coalesce(r.category, '') <> 'not_connected'
GROUP BY 1
"""
SAID = "I would like to book a porcelain crown for next week please"


def spoken_call() -> dict:
    words = [
        {"word": word + " ", "start": 2 + n * 0.5, "end": 2.4 + n * 0.5}
        for n, word in enumerate(SAID.split())
    ]
    hello = [{"word": "Hello.", "start": 0.2, "end": 0.9}]
    turns = [
        {"role": "agent", "content": "Hello.", "words": hello},
        {"role": "user", "content": f"{SAID} ", "words": words},
        {"role": "tool_call_invocation", "name": "book", "arguments": "{}", "time_sec": 4.2},
    ]
    return {
        "call_id": "call_spoken",
        "call_status": "ended",
        "direction": "inbound",
        "from_number": "+14155550123",
        "agent_name": "Dental",
        "start_timestamp": START,
        "duration_ms": SECONDS * 1000,
        "disconnection_reason": "user_hangup",
        "transcript": f"Agent: Hello.\nUser: {SAID}\n",
        "transcript_with_tool_calls": turns,
        "recording_url": "https://recordings.example/call_spoken.wav",
        "recording_multi_channel_url": "https://recordings.example/two.wav",
    }


def chat_with_tools() -> dict:
    use = {"role": "tool_call_invocation", "tool_call_id": "t", "name": "book"}
    result = {"role": "tool_call_result", "tool_call_id": "t", "content": '{"success": true}'}
    return {
        "chat_id": "chat_spoken",
        "chat_type": "sms_chat",
        "chat_status": "ended",
        "user_number": "+14155550123",
        "start_timestamp": START,
        "message_with_tool_calls": [
            {"role": "user", "content": "A crown, please."},
            use | {"arguments": "{}"},
            {"role": "node_transition", "former_node_name": "a", "new_node_name": "b"},
            result,
        ],
    }


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of a Datasette with a made-up day and the call above."""
    path = tmp_path_factory.mktemp("site") / "retell.db"
    migrate(path, timezone="UTC")
    with closing(Store(path)) as store:
        deliver(store, day(2, day_start_ms=START, calls=60))
        stored(store, {"event": "call_ended", "call": spoken_call()}, at=START + 10**8)
        stored(store, {"event": "chat_ended", "chat": chat_with_tools()}, at=START)
        # Periods are compared with those before if calls are older than both.
        before = {"call_id": "call_before", "start_timestamp": START - 70 * 86_400_000}
        stored(store, {"event": "call_ended", "call": before}, at=START)
    add_users(path, {"max": "masked"})
    with running.site(path, PASSWORD) as url:
        yield url


@pytest.fixture
def page(site, chromium, request):
    """A page after the login. What the console says, and hosts that are asked, are collected."""
    options = dict(getattr(request, "param", {}))
    user = options.pop("user", "admin")
    context = chromium.new_context(base_url=site, **options)
    page = context.new_page()
    page.messages, page.requests = [], []
    page.on("console", lambda m: m.type in ("error", "warning") and page.messages.append(m.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.on("request", lambda r: page.requests.append(re.match(r"\w+://[^/]*", r.url)[0]))
    sound = tone(SECONDS)
    page.route("https://**/*.wav", lambda route: play(route, sound))
    log_in(page, user)
    yield page
    context.close()


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


def test_the_drawing_leads_to_the_moment(page):
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
# Pages that say why there is no other: the status, and the address.
ERRORS = (
    (404, "/nowhere"),
    (400, "/retell?sql=selec+1"),
    (400, "/retell?sql=select+*+from+nowhere"),
    (403, "/retell_masked?sql=select+1"),
)
# What looks like one of the pages above.
MORE_PAGES = [f"/-/dashboards/{name}" for name in DASHBOARDS if name not in ("volume", "versions")]


def follow(page, selector: str) -> None:
    """Click a link or a button, and wait until the page behind it is loaded."""
    with page.expect_navigation():
        page.click(selector)


def drawn(page):
    """Wait until every chart of the page is drawn, which none of them may fail to be."""
    until(page, "!document.querySelector('[data-spec]:not(.drawn)')")
    assert page.locator(".drawing .message-error, .drawing .empty").count() == 0


def violations(page, **options):
    """What axe finds. Not preloading: its loading of stylesheets is what the policy refuses."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, None, {"preload": False, **options}).response["violations"]
    return [(v["id"], [node["html"] for node in v["nodes"]]) for v in found]


def open_figures(page):
    """Open the tables below the charts."""
    for summary in page.query_selector_all(".numbers summary"):
        summary.click()
    until(page, "!document.querySelector('.numbers:not(:has(td))')")


def test_pages_pass_axe_and_leave_the_console_silent(page):
    for path in (*PAGES, *MORE_PAGES):
        page.goto(path)
        drawn(page)
        open_figures(page)
        assert page.messages == [], path
        assert violations(page) == [], path
        page.messages.clear()
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
def test_in_the_dark_everything_can_be_read(page):
    for path in (*PAGES, *MORE_PAGES, *(path for _, path in ERRORS)):
        page.goto(path)
        drawn(page)
        open_figures(page)
        assert violations(page, runOnly=["color-contrast"]) == [], path


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_on_a_phone_nothing_stands_beyond_the_screen(page):
    for path in (*PAGES, *MORE_PAGES, *(path for _, path in ERRORS)):
        page.goto(path)
        drawn(page)
        beyond = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(beyond) <= 0, path


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_on_a_phone_legends_fit_their_charts(page):
    for path in ("/-/dashboards/flow", "/-/dashboards/quality"):
        page.goto(path)
        drawn(page)
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


def test_an_anonymous_visitor_gets_nowhere(site, chromium):
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


# Dashboards


def test_chart_has_tooltip_and_link_to_numbers(page, site):
    page.goto("/-/dashboards/volume")
    drawn(page)
    assert not page.is_visible(".bubble")
    page.hover("#calls .role-mark path[fill='var(--c1)'] >> nth=0")
    page.wait_for_selector(".bubble")
    told = page.inner_text(".bubble")
    assert re.match(r"day \w{3} \d+ May 2026\noutcome User\ncalls \d+\nminutes \d", told)
    calls = re.search(r"calls (\d+)", told)[1]
    follow(page, "#calls >> text=Numbers and SQL")
    row = "tr:has(td.col-outcome:text-is('user'))"
    page.wait_for_selector(f"{row} td.col-calls:text-is('{calls}')")
    assert page.messages == []
    assert {*page.requests} == {site}


def test_bar_of_chats_leads_to_its_chats(page):
    """By a click, and by the keyboard in the table of the figures."""
    page.goto("/-/dashboards/chats?since=2026-04-13&until=2026-05-12")
    drawn(page)
    row = next(row for row in rows_of(page, "chats") if row["outcome"] == "ended")
    with page.expect_navigation():
        page.click("#chats .role-mark path[fill='var(--c4)'] >> nth=0")
    address = f"/-/calls?kind=chat&since={row['since']}&until={row['until']}"
    assert address in page.url
    assert "outcome=category" in page.url
    assert re.search(rf"\b{row['chats']} chat", page.inner_text(".totals"))
    page.go_back()
    drawn(page)
    page.click("#chat_agents .numbers summary")
    first = rows_of(page, "chat_agents")[0]
    page.focus("#chat_agents .numbers td a")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert f"agent={first['filter']}" in page.url
    assert re.search(rf"\b{first['chats']} chat", page.inner_text(".totals"))
    assert page.messages == []


def test_bar_without_filter_leads_nowhere(page):
    page.goto("/-/dashboards/volume")
    drawn(page)
    assert any(row["outcome"] == "user" for row in rows_of(page, "calls"))
    with page.expect_navigation():
        page.click("#calls .role-mark path[fill='var(--c1)'] >> nth=0")
    assert "/-/calls?since=" in page.url
    assert "outcome=category" in page.url
    page.goto("/-/dashboards/volume?since=2026-03-01&until=2026-03-31")
    drawn(page)
    assert [row["filter"] for row in rows_of(page, "calls")] == [None]
    page.click("#calls .role-mark path >> nth=0")
    page.wait_for_timeout(200)
    assert "/-/dashboards/volume" in page.url
    assert page.messages == []


def rows_of(page, chart):
    """The rows that a chart draws."""
    source = page.get_attribute(f"#{chart} .drawing", "data-source")
    return page.request.get(source).json()["rows"]


def values_of(page, chart):
    """The values that stand on the bars of a chart, from the top."""
    found = page.eval_on_selector_all(
        f"#{chart} .mark-text.role-mark text",
        "all => all.map(text => [text.getBoundingClientRect().top, text.textContent])",
    )
    return [text for _, text in sorted(found)]


def test_charts_have_their_figures_as_tables(page):
    page.goto("/-/dashboards/volume")
    drawn(page)
    label = page.get_attribute("#calls .drawing[role=img]", "aria-label")
    assert label == "Calls by outcome: a chart. Its figures are in the table below."
    assert page.get_attribute("#calls svg", "aria-hidden") == "true"
    open_figures(page)
    assert page.locator(".numbers[open]").count() == 3
    head, *found = page.eval_on_selector_all(
        "#calls .numbers tr", "rows => rows.map(row => [...row.cells].map(cell => cell.innerText))"
    )
    assert head == ["Day", "Outcome", "Calls", "Minutes"]
    labels = {"not_connected": "Not connected", "no end yet": "No end yet"}
    assert found == [
        [
            row["day"],
            labels.get(row["outcome"], row["outcome"].capitalize()),
            f"{row['calls']:,}",
            # Half a minute is rounded up, as JavaScript does.
            "" if row["minutes"] is None else f"{floor(row['minutes'] + 0.5):,}",
        ]
        for row in rows_of(page, "calls")
    ]


def test_horizontal_bars_have_values_longest_first(page):
    for dashboard, chart, name, amount, write in (
        ("cost", "families", "family", "dollars", "${:,.2f}"),
        ("cost", "products", "product", "dollars", "${:,.2f}"),
        ("cost", "agents", "agent", "dollars", "${:,.2f}"),
        ("quality", "reasons", "reason", "calls", "{:,}"),
        ("flow", "failures", "tool", "share", "{:.1%}"),
        ("flow", "durations", "tool", "average_ms", "{:,.0f}"),
        ("flow", "nodes", "node", "times", "{:,}"),
        ("flow", "steps", "step", "times", "{:,}"),
    ):
        if f"/{dashboard}?" not in page.url:
            page.goto(f"/-/dashboards/{dashboard}?")
            drawn(page)
        sums = {}
        for row in rows_of(page, chart):
            sums[row[name]] = sums.get(row[name], 0) + row[amount]
        expected = [write.format(value) for value in sorted(sums.values(), reverse=True)]
        assert values_of(page, chart) == expected, chart
        right = page.eval_on_selector_all(
            f"#{chart} svg, #{chart} .mark-text.role-mark text",
            "all => all.map(part => part.getBoundingClientRect().right)",
        )
        assert max(right[1:]) <= right[0] + 1, chart


def test_bars_of_days_have_sums_that_fit(page):
    page.goto("/-/dashboards/volume")
    drawn(page)
    sums = {}
    for row in rows_of(page, "calls"):
        sums[row["day"]] = sums.get(row["day"], 0) + row["calls"]
    assert sorted(values_of(page, "calls")) == sorted(f"{n:,}" for n in sums.values())
    page.goto("/-/dashboards/volume?since=2026-03-01&until=2026-05-31")
    drawn(page)
    assert values_of(page, "calls") == []


def test_bars_of_sentiment_have_number_and_share(page):
    found = page.request.get(f"/retell.json?_shape=arrays&{urlencode({'sql': FELT})}").json()[
        "rows"
    ]
    total = sum(count for _, count in found)
    wanted = {f"{name} {count} ({100 * count / total:.0f}%)" for name, count in found}
    assert len(wanted) == 4
    page.goto("/-/dashboards/quality?since=2026-05-10&until=2026-05-14")
    chart = page.locator("figure:has(h2:text-is('Sentiment')) [data-spec].drawn")
    name = chart.get_attribute("aria-label")
    assert wanted == {*name.split("below. ")[1].rstrip(".").split(", ")}
    texts = chart.locator("svg text").all_text_contents()
    assert wanted <= {*texts}
    # Of one day: its number of calls above the bar, and shares within.
    assert str(total) in texts
    assert any(text.endswith("%") and "(" not in text for text in texts)


def test_cells_of_few_calls_are_faded(page):
    page.goto("/-/dashboards/volume")
    drawn(page)
    judged = [row["judged"] for row in rows_of(page, "successful_hours") if row["judged"]]
    for colour, count in (
        ("--c8", sum(n < 5 for n in judged)),
        ("--c1", sum(n >= 5 for n in judged)),
    ):
        cells = f"#successful_hours .role-mark path[fill='var({colour})']"
        assert page.locator(cells).count() == count > 0, colour
    assert "fewer than 5 such calls" in page.inner_text("#successful_hours figcaption")


def test_click_beside_a_menu_closes_it_alone(page):
    page.goto("/-/dashboards/volume")
    drawn(page)
    page.click("#calls .numbers summary")
    page.click("header.top details.leave summary")
    assert page.locator("details.leave[open]").count() == 1
    page.click("h1")
    assert page.locator("details.leave[open]").count() == 0
    assert page.locator("#calls .numbers[open]").count() == 1


def test_filters_work_by_keyboard_across_dashboards(page):
    page.goto("/-/dashboards/volume")
    assert page.is_disabled("select[name=version]")
    page.focus("select[name=agent]")
    page.keyboard.press("ArrowDown")
    for _ in range(2):
        page.keyboard.press("Tab")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    agent = page.input_value("select[name=agent]")
    assert agent.startswith("agent_")
    assert page.locator("select[name=version] option").count() > 1
    follow(page, "nav.boards >> text=Cost")
    drawn(page)
    assert page.input_value("select[name=agent]") == agent
    follow(page, "nav.boards >> text=Versions")
    assert "All versions" in page.inner_text("table.versions")
    assert page.messages == []


def test_charts_of_empty_days_say_so(page):
    page.goto("/-/dashboards/quality?since=2020-01-01&until=2020-01-31")
    until(page, "!document.querySelector('[data-spec]:not(.drawn)')")
    assert page.locator(".drawing .empty").count() == 3
    assert page.messages == []


def test_a_chart_that_cannot_be_drawn_says_why(page):
    page.route("**/retell.json?*", lambda r: r.fulfill(status=400, json={"error": "It broke."}))
    page.goto("/-/dashboards/quality")
    page.wait_for_selector("#reasons .message-error")
    assert "It broke." in page.inner_text("#reasons")


@pytest.mark.parametrize("page", [{"java_script_enabled": False}], indirect=True)
def test_without_scripts_charts_link_to_numbers(page):
    page.goto("/-/dashboards/cost")
    assert "Charts need JavaScript" in page.inner_text("main")
    follow(page, "#products >> text=Numbers and SQL")
    assert page.locator("tbody tr").count() > 3


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
        drawn(page)
        content = page.content()
        assert "porcelain" not in content
        assert "4155550123" not in content
        assert page.messages == [], path
    assert page.goto("/retell/call_log").status == 403
