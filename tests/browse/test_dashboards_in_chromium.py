"""Dashboards in a real browser."""

import re
from math import floor
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.support.browsing import (
    NEEDS_BROWSER,
    bar_values,
    chart_rows,
    follow,
    open_figures,
    until,
    wait_for_charts,
)

pytestmark = NEEDS_BROWSER
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


def test_chart_has_tooltip_and_link_to_numbers(page, site):
    page.goto("/-/dashboards/volume")
    wait_for_charts(page)
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
    wait_for_charts(page)
    row = next(row for row in chart_rows(page, "chats") if row["outcome"] == "ended")
    with page.expect_navigation():
        page.click("#chats .role-mark path[fill='var(--c4)'] >> nth=0")
    address = f"/-/calls?kind=chat&since={row['since']}&until={row['until']}"
    assert address in page.url
    assert "outcome=category" in page.url
    assert re.search(rf"\b{row['chats']} chat", page.inner_text(".totals"))
    page.go_back()
    wait_for_charts(page)
    page.click("#chat_agents .numbers summary")
    first = chart_rows(page, "chat_agents")[0]
    page.focus("#chat_agents .numbers td a")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert f"agent={first['filter']}" in page.url
    assert re.search(rf"\b{first['chats']} chat", page.inner_text(".totals"))
    assert page.messages == []


def test_bar_without_filter_leads_nowhere(page):
    page.goto("/-/dashboards/volume")
    wait_for_charts(page)
    assert any(row["outcome"] == "user" for row in chart_rows(page, "calls"))
    with page.expect_navigation():
        page.click("#calls .role-mark path[fill='var(--c1)'] >> nth=0")
    assert "/-/calls?since=" in page.url
    assert "outcome=category" in page.url
    page.goto("/-/dashboards/chats?since=2026-04-13&until=2026-05-12")
    wait_for_charts(page)
    bars = page.locator("#chat_agents .mark-rect.role-mark path")
    rows = chart_rows(page, "chat_agents")
    assert [row["filter"] is None for row in rows] == [False] * (len(rows) - 1) + [True]
    assert bars.count() == len(rows)
    bars.last.click()
    page.wait_for_timeout(200)
    assert "/-/dashboards/chats" in page.url
    with page.expect_navigation():
        bars.first.click()
    assert page.messages == []


def test_cell_of_hours_leads_to_its_calls(page):
    page.goto("/-/dashboards/volume")
    wait_for_charts(page)
    rows = {(row["weekday"], row["hour"]): row["calls"] for row in chart_rows(page, "hours")}
    with page.expect_navigation():
        page.click("#hours .role-mark path >> nth=0")
    chosen = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
    calls = rows[chosen["weekday"], chosen["hour"]]
    assert re.search(rf"\b{calls} call", page.inner_text(".totals"))
    assert page.messages == []


def test_charts_have_their_figures_as_tables(page):
    page.goto("/-/dashboards/volume")
    wait_for_charts(page)
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
        for row in chart_rows(page, "calls")
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
            wait_for_charts(page)
        sums = {}
        for row in chart_rows(page, chart):
            sums[row[name]] = sums.get(row[name], 0) + row[amount]
        expected = [write.format(value) for value in sorted(sums.values(), reverse=True)]
        assert bar_values(page, chart) == expected, chart
        right = page.eval_on_selector_all(
            f"#{chart} svg, #{chart} .mark-text.role-mark text",
            "all => all.map(part => part.getBoundingClientRect().right)",
        )
        assert max(right[1:]) <= right[0] + 1, chart


def test_bars_of_days_have_sums_that_fit(page):
    page.goto("/-/dashboards/volume")
    wait_for_charts(page)
    sums = {}
    for row in chart_rows(page, "calls"):
        sums[row["day"]] = sums.get(row["day"], 0) + row["calls"]
    assert sorted(bar_values(page, "calls")) == sorted(f"{n:,}" for n in sums.values())
    page.goto("/-/dashboards/volume?since=2026-03-01&until=2026-05-31")
    wait_for_charts(page)
    assert bar_values(page, "calls") == []


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
    wait_for_charts(page)
    judged = [row["judged"] for row in chart_rows(page, "successful_hours") if row["judged"]]
    for colour, count in (
        ("--c8", sum(n < 5 for n in judged)),
        ("--c1", sum(n >= 5 for n in judged)),
    ):
        cells = f"#successful_hours .role-mark path[fill='var({colour})']"
        assert page.locator(cells).count() == count > 0, colour
    assert "fewer than 5 such calls" in page.inner_text("#successful_hours figcaption")


def test_click_beside_a_menu_closes_it_alone(page):
    page.goto("/-/dashboards/volume")
    wait_for_charts(page)
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
    wait_for_charts(page)
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
