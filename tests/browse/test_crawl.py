"""Every page that a link of the real `callhouse browse` leads to: it answers, and its figures are
those of the bodies that were received, counted another way."""

import heapq
import html
import itertools
import json
import re
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit
from zoneinfo import ZoneInfo

import httpx
import pytest

from receiver.browse.formatting import format_dollars, label
from receiver.clock import format_duration
from receiver.store import migrate, open_store
from tests.support import running
from tests.support.browsing import NEEDS_BROWSER, PASSWORD, log_in
from tests.support.called import Call, calls_of
from tests.support.days import day, deliver
from tests.support.engines import url_of

pytestmark = [*NEEDS_BROWSER, pytest.mark.slow]
START = 1_778_544_000_000
DAY_MS = 86_400_000
ZONES = ("UTC", "Asia/Kolkata")
# Pages to ask for in each zone. Of links that differ only in ids and values, few come first; more
# of those beside which a number of rows stands.
BOUND = 600
HREF = re.compile(r'<a\b[^>]*?\bhref="([^"#]+)[^"]*"')
# A link beside the number of rows that it leads to.
COUNTED = (
    re.compile(r'<li><a href="([^"]+)">[^<]*</a> ([\d,]+)</li>'),
    re.compile(r'<li><a href="([^"]+)">([\d,]+) rows?</a> of '),
    re.compile(r'<li><a href="([^"]+)"><strong>([\d,]+)</strong>'),
    # The home page: a figure, an agent, a reason and a bar.
    re.compile(r'<dt><a href="([^"]+)">Calls</a></dt><dd><span class="value">([\d,]+)<'),
    re.compile(
        r'<th scope="row"><a href="([^"]+)">[^<]*</a></th>'
        r'\s*<td><a href="[^"]+"><span class="value">([\d,]+)<'
    ),
    re.compile(
        r'<li><a href="([^"]+)">[^<]*(?:<span class="gist">[^<]*</span>)?</a>'
        r' <span class="count">([\d,]+) '
    ),
    re.compile(r'<a href="([^"]+)" aria-label="[^":]+: ([\d,]+) calls, '),
    # A version, the other calls of a number or agent, and the chats beside calls.
    re.compile(r'<td data-label="Calls"[^>]*><a href="([^"]+)">([\d,]+)</a>'),
    re.compile(r'<a href="([^"]+)">all ([\d,]+) calls</a>'),
    re.compile(r'<a class="other" href="([^"]+)">([\d,]+) (?:chat|call)s?</a>'),
)
VERSION = re.compile(
    r'version (\d+).*?data-label="Calls"[^>]*><a href="([^"]+)">([\d,]+)<'
    r'.*?data-label="Success">(.*?)</td>',
    re.DOTALL,
)
# How many rows a page says that it has: of a table, or of the list of calls.
ROWS = re.compile(
    r'<strong>([\d,]+) rows?</strong>|<p class="totals" role="status"><strong>([\d,]+)</strong>'
)
TOTALS = re.compile(
    r'<p class="totals" role="status"><strong>([\d,]+)</strong> calls?'
    r"(?: · ([\d,]+) minutes · ([^<\s]+))?"
)
FIGURE = re.compile(
    r'<dt>(?:<a href="([^"]+)">)?([^<]+)(?:</a>)?</dt><dd><span class="value"[^>]*>([^<]*)<'
)
BAR = re.compile(
    r'<a href="([^"]+)" aria-label="'
    r'([^"]*): ([\d,]+) calls, ([\d,]+) connected, ([\d,]+) successful"'
)


@dataclass(frozen=True)
class Site:
    """A running `browse`, a client that is logged in, and what was received."""

    url: str
    client: httpx.Client
    calls: dict[str, Call]
    process: running.Running

    def get(self, path, **query) -> str:
        answer = self.client.get(path, params=query or None)
        assert answer.status_code == 200, (path, answer.status_code)
        return answer.text

    def listed(self, link) -> tuple[int, str | None, str | None]:
        """How many calls the list has that a link leads to, and their minutes and cost."""
        path = html.unescape(link)
        assert path.startswith("/-/calls?"), path
        # However busy the machine is, the list is counted.
        count, minutes, cost = TOTALS.search(self.get(f"{path}&count=all")).groups()
        return number(count), minutes, cost


@pytest.fixture(scope="module")
def filled(engine):
    """Three days of the sandbox in a database, and what was sent."""
    sent = [
        one
        for seed in (1, 2, 3)
        for one in day(seed, day_start_ms=START + (seed - 1) * DAY_MS, calls=60)
    ]
    with engine.blank() as database:
        with closing(open_store(database)) as store:
            deliver(store, sent)
        yield database, sent


@pytest.fixture(scope="module", params=ZONES)
def site(engine, filled, request, tmp_path_factory):
    source, sent = filled
    folder = tmp_path_factory.mktemp("crawl")
    address = running.free_address()
    url = f"http://{address}"
    with engine.copied(source) as database:
        migrate(database, timezone=request.param)
        environ = running.environment(
            CALLHOUSE_DATABASE_URL=url_of(database),
            CALLHOUSE_BROWSE_BIND=address,
            CALLHOUSE_BROWSE_PASSWORD=PASSWORD,
            CALLHOUSE_TIMEZONE=request.param,
        )
        with (
            engine.browsable(environ, folder) as seen,
            running.browse(seen, folder) as process,
            httpx.Client(base_url=url, follow_redirects=True, timeout=120) as client,
        ):
            page = client.get("/-/login").text
            token = re.search(r'name="csrftoken" value="([^"]+)"', page)[1]
            form = {"username": "admin", "password": PASSWORD, "csrftoken": token}
            assert client.post("/-/login", data=form).status_code == 200
            yield Site(url, client, calls_of(sent, ZoneInfo(request.param)), process)


# -- every link ----------------------------------------------------------------------------------


def shape(url) -> tuple:
    """What links have in common that differ only in ids and values."""
    parts = urlsplit(url)
    path = tuple(part for part in parts.path.split("/")[:4] if not re.search(r"\d", part))
    names = sorted({pair.partition("=")[0] for pair in parts.query.split("&")})
    return path, parts.path.rpartition(".")[2][:4], tuple(names)


def number(text) -> int:
    return int(text.replace(",", ""))


def links(page, base) -> set[str]:
    found = {urljoin(base, html.unescape(href)) for href in HREF.findall(page)}
    return {url for url in found if "/-/logout" not in url}


def counted(page, base) -> dict[str, int]:
    """Links to rows, with the number that stands beside each."""
    return {
        urljoin(base, html.unescape(href)): number(count)
        for pattern in COUNTED
        for href, count in pattern.findall(page)
    }


def crawl(site, bound) -> tuple[dict[str, str], dict[str, dict[str, int]]]:
    """Pages by address; and of each address, the pages that say how many rows it has."""
    order = itertools.count()
    seen, pages, promised = Counter(), {}, defaultdict(dict)
    waiting, known = [(0, next(order), f"{site.url}/")], {f"{site.url}/"}
    while waiting and len(pages) < bound:
        _, _, url = heapq.heappop(waiting)
        answer = site.client.get(url)
        assert answer.status_code == 200, url
        pages[url] = ""
        if "text/html" not in answer.headers["content-type"]:
            continue
        pages[url] = answer.text
        numbers = counted(answer.text, url)
        for target, count in numbers.items():
            promised[target][url] = count
        for target in sorted(links(answer.text, url) - known):
            if target.startswith(f"{site.url}/"):
                known.add(target)
                seen[shape(target)] += 1
                later = seen[shape(target)] // (10 if target in numbers else 1)
                heapq.heappush(waiting, (later, next(order), target))
    return pages, promised


def test_every_link_leads_to_the_rows_it_counts(site):
    pages, promised = crawl(site, BOUND)
    assert len(pages) == BOUND
    checked = Counter()
    for url, page in pages.items():
        found = ROWS.search(page)
        for source, count in promised[url].items() if found else ():
            assert number(found[1] or found[2]) == count, (source, url)
            checked["calls" if found[2] else "rows"] += 1
    assert checked["rows"] > 50
    assert checked["calls"] > 30
    assert "Traceback" not in site.process.output()


# -- figures -------------------------------------------------------------------------------------


def percent(part, whole) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "–"


def expected_figures(calls) -> dict[str, tuple[str, int]]:
    """Each figure of the home page, and how many calls are behind it."""
    minutes = sum(call.fields.get("duration_ms") or 0 for call in calls) / 60_000
    connected = sum(call.is_connected for call in calls)
    judged = [call.success for call in calls if call.success is not None]
    felt = [call.sentiment == "negative" for call in calls if call.sentiment is not None]
    return {
        "Calls": (f"{len(calls):,}", len(calls)),
        "Connected": (percent(connected, len(calls)), connected),
        "Success": (percent(sum(judged), len(judged)), sum(judged)),
        "Negative": (percent(sum(felt), len(felt)), sum(felt)),
        "Minutes": (f"{minutes:,.0f}", len(calls)),
        "Cost": (format_dollars(sum(call.cents or 0 for call in calls)), len(calls)),
    }


def homes(site):
    """Of each period of the home page: its name, its text and its calls."""
    last = max(call.at.date() for call in site.calls.values())
    for name, days in (("today", 1), ("7-days", 7), ("30-days", 30)):
        calls = [c for c in site.calls.values() if (last - c.at.date()).days < days]
        yield name, site.get("/", period=name), calls


def test_home_has_the_figures_of_the_bodies(site):
    for name, page, calls in homes(site):
        expected = expected_figures(calls)
        found = {title: (link, value) for link, title, value in FIGURE.findall(page)}
        assert len(found) == len(expected) + 2
        for title, (value, count) in expected.items():
            link, shown = found[title]
            listed = site.listed(link)
            assert (shown, listed[0]) == (value, count), (name, title)
            if count == len(calls):
                assert listed[1:] == (expected["Minutes"][0], expected["Cost"][0]), (name, title)


def test_bars_of_home_count_the_calls(site):
    for name, page, calls in homes(site):
        form = "%H:00" if name == "today" else "%a %-d %B"
        expected = defaultdict(lambda: (0, 0, 0))
        for call in calls:
            counts = 1, call.is_connected, call.success is True
            title = f"{call.at:{form}}"
            expected[title] = tuple(map(sum, zip(expected[title], counts, strict=True)))
        bars = BAR.findall(page)
        assert {title: tuple(map(number, counts)) for _, title, *counts in bars} == expected
        for link, title, count, *_ in bars:
            assert site.listed(link)[0] == number(count), title


def test_agents_of_home_have_their_figures(site):
    for _, page, calls in homes(site):
        by_agent = defaultdict(list)
        for call in calls:
            by_agent[call.fields.get("agent_id")].append(call)
        table = page.partition('<section class="agents">')[2].partition("</section>")[0]
        rows = table.partition("<tbody>")[2].split("</tr>")[:-1]
        assert len(rows) == min(len(by_agent), 12)
        for row in rows:
            name = re.search(r'<th scope="row">(?:<a href="([^"]+)">)?', row)
            link = html.unescape(name[1] or "")
            own = by_agent[re.search(r"agent=(\w+)|$", link)[1]]
            expected = expected_figures(own)
            cells = re.findall(r'<td>(?:<a href="([^"]+)">)?<span class="value"[^>]*>([^<]*)', row)
            shown = {"Calls": (link, cells[0][1]), "Success": cells[1], "Negative": cells[2]}
            for title, (url, value) in shown.items():
                assert value == expected[title][0], (link, title)
                if link:
                    assert site.listed(url)[0] == expected[title][1], (link, title)
            connected = expected["Connected"][1]
            seconds = sum(call.fields.get("duration_ms") or 0 for call in own) / 1000
            assert cells[3][1] == (format_duration(seconds / connected) if connected else "–")
            assert cells[4][1] == expected["Cost"][0]


def test_failures_of_home_lead_to_their_calls(site):
    failing = {"error", "limit", "not_connected"}
    for name, page, calls in homes(site):
        expected = Counter()
        for call in calls:
            reason = call.fields.get("disconnection_reason")
            is_failed = bool(reason) and (call.outcome in failing or not call.is_connected)
            if is_failed or call.success is False:
                expected[label(reason or "no end yet"), is_failed] += 1
        section = page.partition('<section class="reasons">')[2].partition("</section>")[0]
        total = re.search(r"<small>([\d,]+)</small>", section)
        assert number(total[1]) == sum(expected.values()), name
        found = re.findall(
            r'<li>(?:<a href="([^"]+)">)?([^<]+)(<span class="gist">)?.*?"count">([\d,]+) ', section
        )
        counts = [number(count) for *_, count in found]
        assert counts == sorted(expected.values(), reverse=True)[:6]
        for link, reason, gist, count in found:
            assert expected[html.unescape(reason).strip(), not gist] == number(count), reason
            if link:
                assert site.listed(link)[0] == number(count), (name, reason)


def test_call_pages_have_figures_of_their_bodies(site):
    for call_id, call in site.calls.items():
        page = html.unescape(site.get(f"/-/call/{call_id}"))
        facts = re.search(r'<p class="facts">(.*?)</p>', page, re.DOTALL)[1]
        if "start_timestamp" in call.fields:
            assert f"{call.at:%H:%M:%S}" in facts, call_id
        duration = call.fields.get("duration_ms")
        if duration is not None and "start_timestamp" in call.fields:
            assert f"<span>{format_duration(duration / 1000)} <small>long" in facts, call_id
        if call.cents is not None:
            assert f">{format_dollars(call.cents)}" in facts, call_id
        costs = (call.fields.get("call_cost") or {}).get("product_costs") or []
        for cost in costs:
            assert f">{format_dollars(cost['cost'])}</td>" in page, (call_id, cost)
        for name, latency in (call.fields.get("latency") or {}).items():
            if isinstance(latency, dict) and latency.get("p50") is not None:
                wait = latency["p50"]
                shown = f"{wait:,.0f} ms" if wait < 1000 else f"{wait / 1000:,.1f} s"
                assert f"<td>{shown}</td>" in page, (call_id, name)


def answers_of(site, board, **query) -> list[list[dict]]:
    """What each chart of a dashboard draws."""
    page = site.get(f"/-/dashboards/{board}", **query)
    urls = re.findall(r'data-source="([^"]+)"', page)
    return [json.loads(site.get(html.unescape(url)))["rows"] for url in urls]


def summed(rows, keys, value) -> dict[tuple, float]:
    found = defaultdict(float)
    for row in rows:
        found[tuple(row[key] for key in keys)] += row[value]
    return {key: pytest.approx(value, abs=0.06) for key, value in found.items()}


def chart_with(answers, *columns) -> list[dict]:
    """The first answer that has these columns."""
    return next(rows for rows in answers if rows and {*columns} <= rows[0].keys())


def choices(site) -> list[dict]:
    """Filters as the form offers them: none, each agent, each direction, a day."""
    agents = {c.fields["agent_id"] for c in site.calls.values() if "agent_id" in c.fields}
    one_day = sorted(call.day for call in site.calls.values())[len(site.calls) // 2]
    return [
        {},
        {"since": one_day, "until": one_day},
        *({"direction": name} for name in ("inbound", "outbound", "web")),
        *({"agent": agent} for agent in sorted(agents)[:5]),
    ]


def chosen(site, query) -> list[Call]:
    directions = {"web_call": "web"}
    return [
        call
        for call in site.calls.values()
        if query.get("since", "") <= call.day <= query.get("until", "9")
        and query.get("agent", call.fields.get("agent_id")) == call.fields.get("agent_id")
        and query.get("direction")
        in (
            None,
            directions.get(call.fields.get("call_type"), call.fields.get("direction")),
        )
    ]


def products_dollars(call) -> float:
    costs = (call.fields.get("call_cost") or {}).get("product_costs") or []
    return sum(cost["cost"] for cost in costs) / 100


def test_charts_have_the_figures_of_the_bodies(site):
    for query in choices(site):
        calls = chosen(site, query)
        board = site.get("/-/dashboards/volume", **query)
        link = re.search(r'<a href="([^"]+)" aria-label="Calls of ', board)[1]
        assert site.listed(link)[0] == len(calls), query
        counts = Counter((call.day, call.outcome) for call in calls)
        volume = answers_of(site, "volume", **query)
        assert summed(chart_with(volume, "day", "outcome"), ("day", "outcome"), "calls") == counts
        cost = [r for r in answers_of(site, "cost", **query) if r and "dollars" in r[0]]
        drawn, expected = Counter(), Counter()
        for row in cost[0] if cost else ():
            drawn[row["day"]] += row["dollars"] or 0
        for call in calls:
            expected[call.day] += products_dollars(call)
        for one in drawn | expected:
            assert drawn[one] == pytest.approx(expected[one], abs=0.001), (query, one)
        judged = Counter()
        for call in calls:
            if call.is_connected and call.analysis.get("call_successful") is not None:
                judged[(call.day,)] += 1
        quality = [r for r in answers_of(site, "quality", **query) if r and "judged" in r[0]]
        if quality:
            assert summed(quality[0], ("day",), "judged") == judged, query


def test_versions_count_the_connected_calls(site):
    agents = {c.fields["agent_id"] for c in site.calls.values() if "agent_id" in c.fields}
    shown = 0
    for agent in sorted(agents):
        expected, success = Counter(), defaultdict(list)
        for call in site.calls.values():
            version = call.fields.get("agent_version")
            if call.is_connected and call.fields.get("agent_id") == agent and version is not None:
                expected[version] += 1
                if call.analysis.get("call_successful") is not None:
                    success[version].append(call.analysis["call_successful"])
        page = site.get("/-/dashboards/versions", agent=agent)
        rows = VERSION.findall(page)
        assert {int(version): number(count) for version, _, count, _ in rows} == expected
        for version, link, count, cell in rows:
            assert site.listed(link)[0] == number(count), (agent, version)
            found = re.search(r'class="value" href="([^"]+)">(\d+(?:\.\d)?) %', cell)
            judged = success[int(version)]
            assert bool(found) == bool(judged)
            if found:
                share = 100 * sum(judged) / len(judged)
                assert site.listed(found[1])[0] == sum(judged)
                assert float(found[2]) == pytest.approx(share, abs=0.51)
                shown += 1
    assert shown > 5


# -- a real browser ------------------------------------------------------------------------------


def test_a_browser_finds_no_fault_on_pages(site, chromium):
    context = chromium.new_context(base_url=site.url)
    page = context.new_page()
    messages, asked = [], set()
    page.on(
        "console", lambda m: m.type in ("error", "warning") and messages.append((page.url, m.text))
    )
    page.on("pageerror", lambda error: messages.append((page.url, str(error))))
    page.on("request", lambda r: asked.add((r.resource_type, urlsplit(r.url).netloc)))
    page.route(
        lambda url: not url.startswith(site.url), lambda route: route.fulfill(status=200, body="")
    )
    log_in(page)
    pages, _ = crawl(site, 120)
    for url in [url for url, text in pages.items() if text][:40]:
        assert page.goto(url, wait_until="load").status == 200
    context.close()
    assert messages == []
    assert {kind for kind, host in asked if host != urlsplit(site.url).netloc} <= {"media"}
