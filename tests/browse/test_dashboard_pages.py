"""The pages of dashboards, asked over Datasette's client: who sees which, filters, versions."""

import html
import json
import re
from contextlib import closing
from urllib.parse import parse_qs, urlsplit

import pytest

from receiver import config
from receiver.browse.charts import DASHBOARDS
from receiver.store import Store, migrate, receive
from tests.support.browsing import START, add_tokens, browsing, simple, visitor
from tests.support.days import day, deliver
from tests.support.storing import stored
from tests.support.webhooks import KEY

# Datasette serves files.
pytestmark = pytest.mark.sqlite
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The demo's day."""
    path = tmp_path_factory.mktemp("day") / "retell.db"
    migrate(path, timezone="Europe/Berlin")
    with closing(Store(path)) as store:
        deliver(store, day(1, day_start_ms=START, calls=60))
    return path


def visiting(path, timezone="Europe/Berlin"):
    """Yield get(path, name): as jane who reads, as max who sees no personal data, or as nobody."""
    environ = {"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"}
    tokens = add_tokens(path, {"jane": "reader", "max": "masked"})
    with browsing(config.load(environ | {"CALLHOUSE_TIMEZONE": timezone})) as served:
        yield visitor(served, tokens, name="jane")


@pytest.fixture
def get(path):
    yield from visiting(path)


@pytest.fixture
def get_new(db_path):
    """The same of a file with nothing in it."""
    yield from visiting(db_path, "UTC")


def sources(page):
    return [html.unescape(url) for url in re.findall(r'data-source="([^"]+)"', page.text)]


def specs(page):
    return [
        json.loads(html.unescape(spec)) for spec in re.findall(r"data-spec='([^']+)'", page.text)
    ]


def chosen(page):
    """The values that the form shows."""
    dates = re.findall(r'type="date" name="(\w+)" value="([^"]*)"', page.text)
    return dict(dates) | {
        name: re.findall(r'value="([^"]*)" selected', options)
        for name, options in re.findall(r'<select name="(\w+)"[^>]*>(.*?)</select>', page.text)
    }


# Who sees what


@pytest.mark.parametrize("name", ["jane", "max"])
def test_charts_query_the_readers_database(get, name):
    database = {"jane": "retell", "max": "retell_masked"}[name]
    for slug, dashboard in DASHBOARDS.items():
        page = get(f"/-/dashboards/{slug}", name)
        assert page.status_code == 200
        assert dashboard.description.split("'")[0] in page.text
        urls = sources(page)
        shown = [c for c in dashboard.charts.values() if name == "jane" or not c.is_personal]
        assert len(urls) == len(specs(page)) == len(shown)
        for url in urls:
            assert url.startswith(f"/{database}.json?")
            assert get(url, name).json()["rows"], url
            assert get(url, None).status_code == 403
            if name == "max":
                assert get(url.replace("retell_masked", "retell"), name).status_code == 403


def test_masked_reader_sees_equal_figures(get):
    for slug in DASHBOARDS:
        whole, masked = (get(f"/-/dashboards/{slug}", name) for name in ("jane", "max"))
        # The numbers are last.
        open_ones = sources(whole)[: len(sources(masked))]
        for url, masked_url in zip(open_ones, sources(masked), strict=True):
            assert get(url).json()["rows"] == get(masked_url, "max").json()["rows"]
    assert cells(whole) == cells(masked)


def test_nobody_sees_a_dashboard_without_a_login(get):
    paths = ["", *(f"/{slug}" for slug in DASHBOARDS), "/unknown", "/volume/embed"]
    for path in (*paths, "/volume/calls", "/volume/calls/embed"):
        answer = get(f"/-/dashboards{path}", None)
        assert answer.headers["location"].startswith("/-/login"), path
        assert "Dashboards</a>" not in answer.text
        assert "Nora" not in answer.text


def test_unknown_dashboard_is_404(get):
    # The package's own ways to show them have nothing of ours.
    for path in ("unknown", "volume/calls"):
        assert get(f"/-/dashboards/{path}").status_code == 404, path


def test_dashboards_are_linked_from_list_and_menu(get):
    page = get("/-/dashboards").text
    for slug, dashboard in DASHBOARDS.items():
        assert f'<a href="/-/dashboards/{slug}">{dashboard.title}</a>' in page
    assert 'href="/-/dashboards">Dashboards</a>' in get("/").text


def test_a_dashboard_keeps_to_the_policy(get):
    answer = get("/-/dashboards/volume")
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert ' style="' not in answer.text
    assert not re.search(r"<[^>]+\son\w+=", answer.text)
    scripts = re.findall(r'<script [^>]*src="([^"]+)"', answer.text)
    assert len(scripts) == 4
    assert all(src.startswith("/-/static-plugins/") for src in scripts)
    assert all(get(src).status_code == 200 for src in scripts)


# Filters


def test_default_is_thirty_days_to_last_call(get):
    page = get("/-/dashboards/volume")
    assert chosen(page) == {
        "since": "2026-04-14",
        "until": "2026-05-13",
        "agent": [],
        "version": [],
        "direction": [],
    }
    assert "Europe/Berlin" in page.text
    assert chosen(get("/-/dashboards/versions"))["since"] == "2026-02-13"


def test_chosen_filters_reach_every_chart_and_form(get):
    agent, *_ = re.findall(r'value="(agent_\w+)">', get("/-/dashboards/volume").text)
    versions = get(f"/-/dashboards/volume?agent={agent}")
    version, *_ = re.findall(r'<option value="(\d+)"', versions.text)
    query = f"since=2026-05-12&until=2026-05-12&agent={agent}&version={version}&direction=inbound"
    page = get(f"/-/dashboards/volume?{query}")
    assert chosen(page) == {
        "since": "2026-05-12",
        "until": "2026-05-12",
        "agent": [agent],
        "version": [version],
        "direction": ["inbound"],
    }
    for url in sources(page):
        asked = parse_qs(urlsplit(url).query)
        assert {key: asked[key][0] for key in ("agent", "version", "direction")} == {
            "agent": agent,
            "version": version,
            "direction": "inbound",
        }
        for condition in ("agent_id = :agent", "version = CAST(:version", "'web') = :direction"):
            assert condition in asked["sql"][0]
        assert "[[" not in asked["sql"][0]
    # From one dashboard to the next, the choice is kept.
    link = re.search(r'href="(/-/dashboards/cost\?[^"]+)"', page.text)[1]
    assert chosen(get(html.unescape(link))) == chosen(page)


@pytest.mark.parametrize(
    "query",
    [
        "since=soon&until=later",
        "since=0001-01-01&until=9999-12-31",
        "version=3",
        "agent=x&version=three",
        "direction=sideways",
        "agent=%22%3E%3Cscript%3Ealert(1)%3C/script%3E",
        "agent='+OR+1=1--",
        "unknown=1&since=",
    ],
)
def test_invalid_choice_is_ignored(get, query):
    for slug in ("volume", "versions"):
        page = get(f"/-/dashboards/{slug}?{query}")
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        urls = sources(page)
        assert len(urls) == len(DASHBOARDS[slug].charts)
        assert all(get(url).status_code == 200 for url in urls)
    assert chosen(get(f"/-/dashboards/volume?{query}"))["version"] == []


def test_reversed_days_are_swapped(get):
    shown = chosen(get("/-/dashboards/volume?since=2026-05-12&until=2026-05-01"))
    assert (shown["since"], shown["until"]) == ("2026-05-01", "2026-05-12")


def test_unfiltered_chart_says_so(get):
    assert "this chart filters by days alone" not in get("/-/dashboards/speed").text
    page = get("/-/dashboards/speed?direction=inbound").text
    assert "this chart filters by days alone" in page
    all_calls, of_direction = re.findall(r'data-things="([^"]+)"', page)[::-1]
    assert "direction=inbound" in of_direction
    assert all_calls in of_direction.replace("&amp;direction=inbound", "")


# Nothing there, and much


def test_dashboard_without_calls_says_so(get_new):
    for slug in DASHBOARDS:
        page = get_new(f"/-/dashboards/{slug}")
        assert page.status_code == 200
        assert f"No {'chats' if slug == 'chats' else 'calls'} yet" in page.text
        assert sources(page) == []


def test_markup_in_names_stays_text(get_new, store):
    evil = "<img src=x onerror=alert(1)>'\">"
    turn = {"role": "tool_call_invocation", "name": evil, "arguments": "{}", "time_sec": 0.2}
    event = simple("call_1", agent_id=evil, agent_name=evil, agent_version=1)
    event["call"] |= {"transcript_with_tool_calls": [turn], "disconnection_reason": evil}
    stored(store, event)
    for slug in DASHBOARDS:
        page = get_new(f"/-/dashboards/{slug}?agent=&since=2026-05-01")
        assert page.status_code == 200
        assert "<img" not in page.text
    [_, shown] = re.findall(r"<option value=\"([^\"]*)\">&lt;img", page.text) * 2
    assert html.unescape(shown) == evil


# Versions


@pytest.fixture
def two_versions(store):
    """Forty calls with each of two versions: of the second, more succeed."""
    for version, successes in ((3, 10), (4, 30)):
        for n in range(40):
            event = simple(
                f"call_{version}_{n}",
                agent_version=version,
                agent_name=f"Dental v{version}",
                start_timestamp=START + n,
                call_cost={"combined_cost": 10 + n % 5},
                call_analysis={"call_successful": n < successes, "user_sentiment": "Neutral"},
            )
            stored(store, event | {"event": "call_analyzed"})


def cells(page):
    text = re.sub(r"<[^>]+>", " ", page.text.split("<tbody>")[1].split("</tbody>")[0])
    return re.sub(r"\s+", " ", text).strip()


def test_better_version_shows_better_else_not_known(get_new, two_versions):
    page = cells(get_new("/-/dashboards/versions"))
    assert page.startswith("Dental v4 version 4, compared with 3")
    assert "75 % 60 % to 86 % better +29 to +65 points" in page
    assert "0 % 0 % to 8.8 % not yet known" in page
    assert "$0.120 $0.116 to $0.124 not yet known" in page


def test_number_of_calls_leads_to_them(get_new, two_versions):
    page = get_new("/-/dashboards/versions?agent=agent_1").text
    links = re.findall(r'<a href="([^"]*/-/calls[^"]+version=(\d)[^"]*)">(\d+)</a>', page)
    assert [(version, calls) for _, version, calls in links] == [("4", "40"), ("3", "40")]
    for url, _, _ in links:
        listed = re.sub(r"<[^>]+>", "", get_new(html.unescape(url)).text)
        assert "40 calls" in listed
    [success] = re.findall(r'<a class="value" href="([^"]+)">75 %</a>', page)
    assert "30 calls" in re.sub(r"<[^>]+>", "", get_new(html.unescape(success)).text)


def test_charts_lead_to_their_calls(get_new, two_versions):
    page = get_new("/-/dashboards/volume?agent=agent_1&direction=inbound").text
    [url] = set(re.findall(r'<a href="([^"]+)" aria-label="Calls of', page))
    assert "agent=agent_1" in url
    assert "direction=inbound" in url
    assert "80 calls" in re.sub(r"<[^>]+>", "", get_new(html.unescape(url)).text)


def test_charts_lead_to_numbers_with_folded_sql(get_new, two_versions):
    page = get_new("/-/dashboards/volume").text
    urls = re.findall(r'<a href="([^"]+)" aria-label="Numbers and SQL of', page)
    assert len(urls) == len(DASHBOARDS["volume"].charts)
    for url in urls:
        numbers = get_new(html.unescape(url)).text
        assert '<td class="col-calls">' in numbers
        assert "<textarea" not in numbers
        [shown] = re.findall(r'show-hide-sql">\(<a href="([^"]+)">show', numbers)
        assert "<textarea" in get_new(html.unescape(shown)).text


def test_presets_are_weeks_and_months_of_the_calls(get_new, two_versions):
    """The last day with calls is Tuesday, 12 May 2026."""
    page = html.unescape(get_new("/-/dashboards/volume").text)
    spans = dict(re.findall(r'\?(since=[^"]+)"[^>]*>((?:This|Last) (?:week|month))<', page))
    assert {name: query[:37] for query, name in spans.items()} == {
        "This week": "since=2026-05-11&until=2026-05-12"[:37],
        "Last week": "since=2026-05-04&until=2026-05-10"[:37],
        "This month": "since=2026-05-01&until=2026-05-12"[:37],
        "Last month": "since=2026-04-01&until=2026-04-30"[:37],
    }


def test_an_agent_has_all_its_versions(get_new, two_versions):
    page = cells(get_new("/-/dashboards/versions?agent=agent_1&version=3"))
    assert page.index("version 4, compared with 3") < page.index("version 3")
    assert page.count("better") == 1


def test_versions_name_their_days_briefly(get_new, store):
    days = {
        "12 May 2026": (0,),
        "28 Apr to 12 May 2026": (14, 0),
        "3 Nov 2025 to 11 May 2026": (190, 1),
    }
    for version, ago in enumerate(days.values()):
        for n in ago:
            start = START - n * 86_400_000
            event = simple(f"call_{version}_{n}", agent_version=version, start_timestamp=start)
            stored(store, event | {"event": "call_analyzed"})
    page = cells(get_new("/-/dashboards/versions?agent=agent_1&since=2025-11-01&until=2026-05-12"))
    shown = re.findall(r"version (\d)(?:, compared with \d)? ([\w ]+ 2026) (\d+) ", page)
    assert shown == [
        (str(version), text, str(len(days[text]))) for version, text in reversed([*enumerate(days)])
    ]


def test_a_masked_login_compares_versions_too(get_new, two_versions):
    whole, masked = (cells(get_new("/-/dashboards/versions", n)) for n in ("jane", "max"))
    assert whole == masked


def test_page_says_when_nothing_can_be_compared(get_new, store):
    stored(store, simple("call_1", agent_version=1))
    assert "No agent has connected calls of two versions" in get_new("/-/dashboards/versions").text
    one = get_new("/-/dashboards/versions?agent=agent_1").text
    assert "All versions" in one
    assert "not yet known</span>" not in one


def test_account_filter_shows_its_calls_alone(get_new, db, store):
    for name in ("acme", "north"):
        db.execute("INSERT INTO account_keys VALUES (?, ?)", (name, name))
    owners = ("acme", "acme", "north", "acme", "north", "north")
    for n, name in enumerate(owners):
        # The last three are of an agent of both.
        agent = name if n < 3 else "both"
        event = simple(f"call_{n}", agent_id=f"agent_{agent}", agent_name=agent.title())
        body = json.dumps(event).encode()
        store.add(
            receive(body, source="webhook", observed_at=START, received_at=START, key_id=name)
        )
    page = get_new("/-/dashboards/volume?account=acme")
    assert ('value="acme"' in page.text, 'value="north"' in page.text) == (True, True)
    assert ('value="agent_acme"' in page.text, 'value="agent_north"' in page.text) == (True, False)
    for account, calls in (("acme", 3), ("north", 3), ("", 6)):
        page = get_new(f"/-/dashboards/volume?account={account}")
        rows = get_new(sources(page)[0].replace("_shape=objects", "_shape=array")).json()
        assert sum(row["calls"] for row in rows) == calls
        assert f">{calls}</span>" in page.text


def test_versions_page_is_the_dashboard(get):
    answer = get("/-/versions?agent=a")
    assert answer.status_code == 302
    assert answer.headers["location"] == "/-/dashboards/versions?agent=a"


def test_single_account_has_no_filter(get):
    assert 'name="account"' not in get("/-/dashboards/volume").text
