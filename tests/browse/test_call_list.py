"""The page of calls: what filters find and add up, compared with Python over the raw bodies."""

import asyncio
import html
import json
import re
from contextlib import closing
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from receiver import config
from receiver.browse.limits import Limits
from receiver.browse.pages import Reader, call_list, call_list_page, call_search
from receiver.browse.pages.call_conditions import conditions
from receiver.browse.pages.call_filters import parse_query_string
from receiver.browse.pages.call_list import order_of, prepare
from receiver.browse.pages.call_sources import CALLS
from receiver.store import Store, migrate, receive
from receiver.store.connection import sqlite3
from receiver.store.rollups import roll_up
from schema.disconnection_reasons import REASONS
from tests.support.browsing import START, browsing, fetched, simple, visiting
from tests.support.days import day
from tests.support.storing import stored
from tests.support.viewing import plan
from tests.support.webhooks import KEY

# Datasette serves files.
pytestmark = pytest.mark.sqlite
BERLIN = ZoneInfo("Europe/Berlin")
LEVELS = {"call_started": 1, "call_ended": 2, "call_analyzed": 3}


def settings(path, timezone="Europe/Berlin"):
    return config.load(
        {
            "RETELL_API_KEY": KEY,
            "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}",
            "CALLHOUSE_TIMEZONE": timezone,
        }
    )


def bodies():
    """Two made-up days."""
    for n in (0, 1):
        yield from day(3 + n, day_start_ms=START + n * 86_400_000, calls=50)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("list") / "retell.db"
    migrate(path, timezone="Europe/Berlin")
    with closing(Store(path)) as store:
        for sent in bodies():
            at = sent.at_ms
            store.add(receive(sent.body, source="webhook", observed_at=at, received_at=at))
        with store.transaction() as connection:
            # As if one key had signed these, and another the others.
            connection.execute("UPDATE calls SET account = 'north' WHERE direction = 'inbound'")
            connection.execute("UPDATE calls SET account = 'south' WHERE account IS NULL")
    return path


@pytest.fixture(scope="module")
def browse(path):
    with visiting(settings(path)) as get:
        yield get


@pytest.fixture(scope="module")
def calls():
    """The calls of the bodies: of each field the value of the highest event."""
    found = {}
    for sent in sorted(bodies(), key=lambda sent: (_level(sent.body), sent.at_ms)):
        body = _object(sent.body)
        if _level(sent.body) < 0 or "call" not in body:
            continue
        fields = {k: v for k, v in body["call"].items() if v is not None}
        call = found.setdefault(fields["call_id"], {})
        call |= fields
        call["observed_at"] = sent.at_ms
    return [with_names(call) for call in found.values()]


def _object(body):
    try:
        return json.loads(body)
    except ValueError:
        return {}


def _level(body):
    fields = _object(body)
    event, call = fields.get("event"), fields.get("call", {})
    if event not in LEVELS and not str(event).startswith("trans"):
        return -1
    if "call_analysis" in call:
        return 3
    return max(LEVELS.get(event, 1), 2 if call.get("disconnection_reason") else 0)


def with_names(call):
    analysis = call.get("call_analysis", {})
    direction = call.get("direction")
    at = call.get("start_timestamp") or call["observed_at"]
    reason = call.get("disconnection_reason")
    tools = [
        entry.get("name")
        for entry in call.get("transcript_with_tool_calls", ())
        if entry["role"] == "tool_call_invocation"
    ]
    return {
        "id": call["call_id"],
        "at": at,
        "day": datetime.fromtimestamp(at / 1000, BERLIN).date().isoformat(),
        "who": call.get("from_number" if direction == "inbound" else "to_number"),
        "agent": call.get("agent_id"),
        "agent_name": call.get("agent_name"),
        "version": call.get("agent_version"),
        "direction": direction or "web",
        "outcome": reason,
        "category": REASONS.get(reason, ("unknown",))[0] if reason else None,
        "connected": "start_timestamp" in call and REASONS.get(reason, ("",))[0] != "not_connected",
        "success": analysis.get("call_successful"),
        "sentiment": (analysis.get("user_sentiment") or "").strip().lower() or None,
        "summary": analysis.get("call_summary"),
        "seconds": call["duration_ms"] / 1000 if call.get("duration_ms") is not None else None,
        "cents": (call.get("call_cost") or {}).get("combined_cost"),
        "tools": tools,
        "transferred": bool(call.get("transfer_destination"))
        or reason in ("call_transfer", "transfer_bridged"),
    }


def listed(get, query):
    """The ids of every page of the list, and its number of calls, minutes and cost."""
    page = get(f"/-/calls?{query}")
    assert page.status_code == 200, page.text
    totals = re.search(
        r"<strong>([\d,]+)</strong> calls?(?: · ([\d,]+) minutes · (\$[\d.,]+))?", page.text
    )
    ids = []
    while True:
        ids += re.findall(r'class="time"><a href="/-/call/(\w+)', page.text)
        link = re.search(r'rel="next" href="([^"]+)"', page.text)
        if not link:
            return ids, totals.groups()
        page = get(html.unescape(link[1]))


def by_time(calls):
    return [c["id"] for c in sorted(calls, key=lambda c: (c["at"], c["id"]), reverse=True)]


def summed(calls):
    if not calls:
        return ("0", None, None)
    cents = sum(c["cents"] or 0 for c in calls)
    minutes = sum(c["seconds"] or 0 for c in calls) / 60
    return (f"{len(calls):,}", f"{minutes:,.0f}", cents)


def check(get, query, expected):
    """The list is these calls, newest first, with their sums."""
    ids, totals = listed(get, query)
    assert ids == by_time(expected), query
    count, minutes, cents = summed(expected)
    assert totals[:2] == (count, minutes), query
    if cents and cents > 10:
        assert totals[2] == f"${cents / 100:,.2f}"


def test_list_has_every_call_newest_first(browse, calls):
    assert len(calls) >= 100
    check(browse, "", calls)


def _local(call):
    return datetime.fromtimestamp(call["at"] / 1000, BERLIN)


# Query -> the same in Python.
FILTERS = {
    "since=2026-05-13": lambda c: c["day"] >= "2026-05-13",
    "until=2026-05-12": lambda c: c["day"] <= "2026-05-12",
    "since=2026-05-13&until=2026-05-13&direction=inbound": (
        lambda c: c["day"] == "2026-05-13" and c["direction"] == "inbound"
    ),
    "direction=web": lambda c: c["direction"] == "web",
    "success=yes": lambda c: c["success"] is True,
    "success=no": lambda c: c["success"] is False,
    "success=unknown": lambda c: c["success"] is None,
    "sentiment=Negative": lambda c: c["sentiment"] == "negative",
    "sentiment=none": lambda c: c["sentiment"] is None,
    "outcome=agent_hangup": lambda c: c["outcome"] == "agent_hangup",
    "outcome=category:not_connected": lambda c: c["category"] == "not_connected",
    "outcome=category:agent&success=yes": lambda c: c["category"] == "agent" and c["success"],
    "connected=yes": lambda c: c["connected"],
    "connected=no&direction=outbound": (
        lambda c: not c["connected"] and c["direction"] == "outbound"
    ),
    "min_duration=1:00": lambda c: (c["seconds"] or 0) >= 60,
    "max_duration=30&success=no": (
        lambda c: c["seconds"] is not None and c["seconds"] <= 30 and c["success"] is False
    ),
    "min_cost=0.20": lambda c: (c["cents"] or 0) >= 20,
    "max_cost=$0.05": lambda c: c["cents"] is not None and c["cents"] <= 5,
    "account=north&sentiment=positive": (
        lambda c: c["direction"] == "inbound" and c["sentiment"] == "positive"
    ),
    "weekday=tue&hour=9": lambda c: _local(c).strftime("%a %H") == "Tue 09",
    "weekday=wed&until=2026-05-13": lambda c: _local(c).strftime("%a") == "Wed",
    "success=judged": lambda c: c["success"] is not None,
    "outcome=category:no end yet": lambda c: c["outcome"] is None,
    "transferred=yes": lambda c: c["transferred"],
    "tool_result=any": lambda c: c["tools"],
    "tag=never": lambda _: False,
    "reviewed=yes": lambda _: False,
    "reviewed=no&sentiment=negative": lambda c: c["sentiment"] == "negative",
}


@pytest.mark.parametrize("query", FILTERS)
def test_filter_finds_and_adds_up_its_calls(browse, calls, query):
    expected = [c for c in calls if FILTERS[query](c)]
    assert expected or query in ("tag=never", "reviewed=yes"), query
    check(browse, query, expected)


def test_agents_are_found_by_id_name_and_version(browse, calls):
    agent = max(calls, key=lambda c: sum(c["agent"] == d["agent"] for d in calls))
    mine = [c for c in calls if c["agent"] == agent["agent"]]
    check(browse, f"agent={agent['agent']}", mine)
    named = [c for c in calls if c["agent_name"] == agent["agent_name"]]
    check(browse, f"agent={agent['agent_name']}", named)
    versions = [c for c in mine if c["version"] == agent["version"]]
    check(browse, f"agent={agent['agent']}&version={agent['version']}", versions)


def test_number_is_found_whole_and_by_its_end(browse, calls):
    who = next(c["who"] for c in calls if (c["who"] or "").startswith("+1415"))
    mine = [c for c in calls if c["who"] == who]
    ending = [c for c in calls if (c["who"] or "").endswith(who[-4:])]
    check(browse, f"number={who.replace('+', '%2B')}", mine)
    check(browse, f"number={who[-4:]}", ending)
    check(browse, f"q={who.replace('+', '%2B')}", mine)


def test_tool_finds_the_calls_that_used_it(browse, calls):
    tool = next(name for c in calls for name in c["tools"])
    check(browse, f"tool={tool}", [c for c in calls if tool in c["tools"]])


SORTED = {
    "cost": "cents",
    "duration": "seconds",
    "agent": "agent_name",
    "number": "who",
    "outcome": "outcome",
    "success": "success",
}


@pytest.mark.parametrize("sort", SORTED)
@pytest.mark.parametrize("is_descending", [True, False])
def test_list_is_sorted_with_unknowns_last(browse, calls, sort, is_descending):
    ids, _ = listed(browse, f"sort={'-' if is_descending else ''}{sort}")
    assert sorted(ids) == sorted(c["id"] for c in calls)
    by_id = {c["id"]: c[SORTED[sort]] for c in calls}
    shown = [by_id[id_] for id_ in ids]
    known = [value for value in shown if value is not None]
    assert known == sorted(known, reverse=is_descending)
    assert shown == known + [None] * (len(shown) - len(known))


def test_oldest_first_is_the_reverse(browse, calls):
    assert listed(browse, "sort=time")[0] == by_time(calls)[::-1]


def test_rolled_up_totals_equal_scanned_ones(path, browse, calls):
    queries = [q for q in FILTERS if "=" in q]
    before = [listed(browse, query)[1] for query in queries]
    with closing(Store(path)) as store:
        assert [*roll_up(store, timezone="Europe/Berlin", now_ms=START + 30 * 86_400_000)]
    assert [listed(browse, query)[1] for query in queries] == before


def test_filters_of_many_calls_find_the_same(browse, calls, monkeypatch):
    monkeypatch.setattr(call_list, "_MANY", 0)
    tool = next(name for c in calls for name in c["tools"])
    check(browse, f"tool={tool}", [c for c in calls if tool in c["tools"]])
    agent = calls[0]["agent"]
    check(browse, f"agent={agent}", [c for c in calls if c["agent"] == agent])


@pytest.mark.parametrize("many", [0, 1_000_000])
def test_rare_analyses_are_found_by_their_index(browse, calls, monkeypatch, many):
    monkeypatch.setattr(call_list, "_MANY", many)
    for query in ("success=yes", "success=no", "sentiment=Negative"):
        check(browse, query, [c for c in calls if FILTERS[query](c)])
    of_both = [c for c in calls if c["success"] is False and c["sentiment"] == "negative"]
    check(browse, "success=no&sentiment=negative", of_both)


def in_order(calls, field, *, is_descending):
    """Ids by a field and then the id, unknown values last."""
    known = sorted((c[field], c["id"]) for c in calls if c[field] is not None)
    unknown = sorted(c["id"] for c in calls if c[field] is None)
    if is_descending:
        known, unknown = known[::-1], unknown[::-1]
    return [id_ for _, id_ in known] + unknown


SOME_FILTERS = {
    "": lambda _: True,
    "direction=inbound": lambda c: c["direction"] == "inbound",
    "success=yes": lambda c: c["success"] is True,
    "sentiment=none": lambda c: c["sentiment"] is None,
}


@pytest.mark.parametrize("read", [3, 1_000])
@pytest.mark.parametrize(
    ("sort", "field"), [("duration", "seconds"), ("sentiment", "sentiment"), ("success", "success")]
)
def test_first_entries_are_those_of_the_order(browse, calls, monkeypatch, read, sort, field):
    monkeypatch.setattr(call_list, "_FIRST_READ", read)
    monkeypatch.setattr(call_list_page, "PAGE_SIZE", 30)
    for query, matches in SOME_FILTERS.items():
        expected = [c for c in calls if matches(c)]
        for sign in ("", "-"):
            ids, _ = listed(browse, f"{query}&sort={sign}{sort}")
            assert ids == in_order(expected, field, is_descending=bool(sign)), (query, sign)


@pytest.fixture(scope="module")
def words(path):
    """Of each call the words of its transcript and of its summary."""
    with closing(sqlite3.connect(path)) as connection:
        texts = connection.execute(
            "SELECT call_id, transcript FROM transcripts UNION ALL "
            "SELECT call_id, call_summary FROM analyses"
        ).fetchall()
    found = {}
    for call_id, text in texts:
        found.setdefault(call_id, set()).update(re.findall(r"\w+", (text or "").lower()))
    return found


@pytest.mark.parametrize("few", [0, 12, 20_000])
@pytest.mark.parametrize("searches", [0, 2_000])
def test_words_find_the_same_calls(browse, calls, words, monkeypatch, few, searches):
    monkeypatch.setattr(call_search, "_FEW", few)
    monkeypatch.setattr(call_search, "_FEW_SEARCHES", searches)

    def having(word):
        return {id_ for id_, fields in words.items() if word in fields}

    beginning = {id_ for id_, fields in words.items() if any(w.startswith("th") for w in fields)}
    for query, ids in {
        "you": having("you"),
        "th*": beginning,
        "you+-tomorrow": having("you") - having("tomorrow"),
        "tomorrow+-the": having("tomorrow") - having("the"),
        "you+-th*": having("you") - beginning,
        # In the summary alone, and in the transcript alone.
        "you+-and": having("you") - having("and"),
        "a+-user": having("a") - having("user"),
        "th*+tomorrow": beginning & having("tomorrow"),
    }.items():
        check(browse, f"q={query}", [c for c in calls if c["id"] in ids])
        longest = in_order([c for c in calls if c["id"] in ids], "seconds", is_descending=True)
        assert listed(browse, f"q={query}&sort=-duration")[0] == longest


@pytest.mark.parametrize(
    ("sort", "step"),
    [
        ("-duration", "SEARCH calls USING INDEX calls_duration (duration_ms>?)"),
        ("sentiment", "SEARCH analyses USING INDEX analyses_judged (<expr>>?)"),
        ("success", "SCAN analyses USING INDEX analyses_judged"),
    ],
)
def test_first_entries_are_found_by_index(path, sort, step):
    order = order_of(sort, CALLS)
    with closing(sqlite3.connect(path)) as connection:
        steps = plan(connection, order.first.select(order, has_key=False).replace(":count", "9"))
    assert steps[0] == step


PARTS = ["product=gpt_4o", "node=a&next_node=b", "node=a&next_node=none", "tool_result=failed"]


@pytest.mark.parametrize("query", PARTS)
def test_parts_of_a_call_are_found_by_key(path, query):
    found = conditions(parse_query_string(query), BERLIN, 0).values()
    where = re.sub(r":\w+", "NULL", " AND ".join(condition.sql for condition in found))
    with closing(sqlite3.connect(path)) as connection:
        steps = plan(connection, f"SELECT 1 FROM calls c WHERE {where}")
    parts = [step for step in steps if re.match(r"(SEARCH|SCAN) [np] ", step)]
    assert len(parts) == len(found)
    keys = r"(PRIMARY KEY|(COVERING )?INDEX tool_calls_failed)"
    key = rf"SEARCH [np] (EXISTS )?USING {keys} \(call_id=\?( AND track=\?)?\)"
    assert all(re.fullmatch(key, step) for step in parts)


@pytest.mark.parametrize("query", ["sentiment=none", "success=unknown"])
def test_calls_without_analysis_are_found_by_keys(path, query):
    [missing] = conditions(parse_query_string(query), BERLIN, 0).values()
    with closing(sqlite3.connect(path)) as connection:
        steps = plan(connection, missing.ids)
    assert {"MERGE (EXCEPT)", "SCAN calls USING INDEX sqlite_autoindex_calls_1"} <= {*steps}
    assert not [step for step in steps if re.match(r"SCAN \w+$", step)]


@pytest.mark.parametrize("result", ["failed", "no-success"])
@pytest.mark.parametrize("tool", ["", "&tool=book"])
def test_results_of_tools_have_an_index(path, result, tool):
    found = conditions(parse_query_string(f"tool_result={result}{tool}"), BERLIN, 0)
    with closing(sqlite3.connect(path)) as connection:
        steps = plan(connection, found["tool_result"].ids.replace(":tool", "'book'"))
    index = f"tool_calls_{result.replace('-', '_')}"
    assert [index in step for step in steps] == [True]


@pytest.mark.parametrize("query", ["success=no", "success=no&sentiment=negative"])
def test_figures_of_judged_calls_need_no_rows(settings, store, monkeypatch, query):
    monkeypatch.setattr(call_list, "_MANY", -1)
    with browsing(settings) as served:
        asyncio.run(served.invoke_startup())
        found = asyncio.run(prepare(Reader(served, "retell"), parse_query_string(query), 0))
    key = order_of("-duration", CALLS).key
    with closing(sqlite3.connect(settings.database_path)) as connection:
        for columns in ("sum(c.duration_ms), sum(c.combined_cost_cents)", f"{key} AS key"):
            sql, params = found.select(columns, reads_all=True)
            steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", params)]
            assert re.match("(SCAN|SEARCH) a USING COVERING INDEX analyses_judged", steps[0])
            assert steps[1] == "SEARCH c USING COVERING INDEX calls_figures (call_id=?)"


def test_masked_and_limited_readers_sort_judged_calls(settings, store):
    for n in range(4):
        call = {"call_analysis": {"call_successful": n % 2 == 0}, "duration_ms": n * 1000}
        stored(store, simple(f"call_{n}", agent_id=f"agent_{n // 2}", **call))
    limits = Limits(agents=("agent_1",))
    with browsing(settings, {"max": "masked", "nora": ("reader", limits)}) as served:
        for user, expected in {"max": ["call_3", "call_1"], "nora": ["call_3"]}.items():
            page = fetched(served, "/-/calls?success=no&sort=-duration", user).text
            assert re.findall(r'class="time"><a href="/-/call/(\w+)', page) == expected
