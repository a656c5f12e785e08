"""Sync against the sandbox: everything Retell has ends up here, once, whatever gets in between."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import date, timedelta

import httpx
import pytest
from click.testing import CliRunner
from conftest import dump
from engines import url_of

from receiver.cli import main
from receiver.errors import CallhouseError, KeyRefused, RetellFailed, UnexpectedAnswer
from receiver.sandbox.limits import Limit
from receiver.sandbox.server import Sandbox
from receiver.store import rebuild, show
from receiver.upstream import fetching
from tests.conftest import KEY, wait_until
from tests.meddling import Meddler
from tests.upstream import DAY_MS, FIRST, NOW_MS, PAST_MS, Account, figures


@pytest.fixture
def account(database):
    with Account(database) as account:
        yield account


def stored(db) -> set[str]:
    return {row["call_id"] for row in db.execute("SELECT call_id FROM calls")}


def started(account) -> list[dict]:
    return [call for call in account.box.calls.values() if "start_timestamp" in call]


def without_transcript(call) -> dict:
    return {name: value for name, value in call.items() if "transcript" not in name}


# -- what is fetched -----------------------------------------------------------------------------


def test_an_existing_account_is_fetched_whole(account, db):
    account.populate(60)
    assert figures(account.sync()) == {"new": 60}
    assert stored(db) == set(account.box.calls)
    for call_id, call in account.box.calls.items():
        assert show(account.database, call_id) == {k: v for k, v in call.items() if v is not None}


def test_a_second_sync_asks_for_nothing_and_stores_nothing(account, db):
    account.populate(60)
    account.sync()
    before, asked = dump(db), len(account.between.gets())
    assert figures(account.sync(FIRST)) == {"unchanged": 60}
    assert len(account.between.gets()) == asked
    assert dump(db)["observations"] == before["observations"]
    # No transcript is kept of them, so there is none to ask for again.
    [(n,)] = db.execute(
        "SELECT count(*) FROM calls WHERE data_storage_setting = 'basic_attributes_only'"
    )
    assert n > 0


def test_calls_that_webhooks_reported_are_not_asked_for(account, db):
    account.populate(40)
    calls = list(account.box.calls.values())
    for call in calls[:30]:
        account.tell(call)
    assert figures(account.sync()) == {"unchanged": 30, "new": 10}
    assert set(account.between.gets()) == {call["call_id"] for call in calls[30:]}


def test_a_list_item_never_erases_a_transcript(account, db):
    account.populate(8)
    for call in account.box.calls.values():
        account.tell(call)
    transcripts = dump(db)["transcripts"]
    # Something that only the list shows: the item is stored.
    for call_id in account.box.calls:
        patch = {"metadata": {"told": "later"}}
        assert update(account, call_id, patch).status_code == 200
    assert figures(account.sync()) == {"changed": 8}
    assert account.between.gets() == []
    assert dump(db)["transcripts"] == transcripts != []
    told = db.execute("SELECT count(*) FROM attributes WHERE name = 'told'").fetchone()[0]
    assert told == 8


def update(account, call_id, body):
    return httpx.patch(
        f"{account.box.url}/v2/update-call/{call_id}",
        json=body,
        headers={"Authorization": f"Bearer {KEY}"},
    )


LACKING = {
    "end": ("call_started", lambda call: {"call_id": call["call_id"], "call_status": "ongoing"}),
    "analysis": (
        "call_ended",
        lambda call: {k: v for k, v in call.items() if k != "call_analysis"},
    ),
    "transcript": ("call_analyzed", without_transcript),
    "cost": ("call_analyzed", lambda call: {k: v for k, v in call.items() if k != "call_cost"}),
}


@pytest.mark.parametrize(("event", "cut"), LACKING.values(), ids=LACKING)
def test_a_call_that_lacks_something_is_asked_for(account, db, event, cut):
    account.populate(12)
    whole = [c for c in started(account) if c["data_storage_setting"] == "everything"]
    for call in whole:
        account.tell(cut(call), event=event)
    account.sync()
    assert {call["call_id"] for call in whole} <= set(account.between.gets())
    for call in whole:
        assert show(account.database, call["call_id"])["transcript"] == call["transcript"]


def test_days_are_those_of_the_time_zone_and_included(account, db):
    account.populate(80)
    day = FIRST + timedelta(days=1)
    account.sync(day, day, timezone="Asia/Tokyo")
    since = PAST_MS + DAY_MS - 9 * 3_600_000
    expected = {
        c["call_id"] for c in started(account) if since <= c["start_timestamp"] < since + DAY_MS
    }
    found = {r["call_id"] for r in db.execute("SELECT * FROM calls WHERE start_timestamp > 0")}
    assert found == expected != set()


def test_only_an_agents_calls_are_fetched(account, db):
    account.populate(60)
    agent = next(iter(account.box.calls.values()))["agent_id"]
    account.sync(agent=agent)
    of_agent = {i for i, c in account.box.calls.items() if c["agent_id"] == agent}
    assert stored(db) == of_agent != set(account.box.calls)


# -- calls that finish late ----------------------------------------------------------------------


def status(db, call_id):
    row = db.execute("SELECT call_status FROM calls WHERE call_id = ?", (call_id,)).fetchone()
    return row and row["call_status"]


@pytest.mark.parametrize("days", [0, 1, 5])
def test_a_call_that_went_on_is_asked_for_again_by_the_next_sync(database, db, days):
    with Account(database, speed=1, scenario="answered") as account:
        call_id = account.place()
        account.sync()
        assert status(db, call_id) in ("registered", "ongoing")
        account.now_ms += days * DAY_MS + 7_200_000
        account.box.wake()
        account.box.settle(30)
        assert account.box.calls[call_id]["call_status"] == "ended"
        account.sync()
        assert status(db, call_id) == "ended"
        assert "call_analysis" in show(database, call_id)


def test_a_call_stuck_in_progress_is_asked_for_until_two_days_are_over(account, db):
    account.populate(1)
    [call_id] = account.box.calls
    stuck = {"call_id": call_id, "call_status": "ongoing", "start_timestamp": NOW_MS}
    account.between.meddle = lambda _, path, __: (
        (200, json.dumps(stuck).encode())
        if "get-call" in path
        else (200, b'{"items": [], "has_more": false}')
    )
    account.tell(stuck, event="call_started")
    asked = []
    for days in (0, 1, 3, 6, 9):
        account.now_ms = NOW_MS + days * DAY_MS
        account.sync()
        asked.append(len(account.between.gets()))
    assert asked == [1, 2, 3, 3, 3]


def test_calls_of_another_workspace_are_not_asked_for(account, db):
    account.populate(1)
    account.tell({"call_id": "theirs", "call_status": "ongoing"}, key="key_of_another_account")
    account.sync()
    assert "theirs" not in account.between.gets()


def test_a_later_sync_goes_on_two_days_before_the_last(account, db):
    account.populate(40)
    account.sync()
    account.between.requests.clear()
    account.now_ms += DAY_MS
    account.sync()
    [row] = db.execute("SELECT since, next_day FROM syncs WHERE since <> ''").fetchall()
    assert tuple(row) == ("2026-05-11", "2026-05-15")


# -- gone upstream -------------------------------------------------------------------------------


def gone(db) -> set[str]:
    rows = db.execute("SELECT call_id FROM upstream_calls WHERE gone_at IS NOT NULL")
    return {row["call_id"] for row in rows}


def test_a_call_that_retell_deleted_is_marked_and_kept_and_not_asked_for_again(account, db):
    account.populate(20)
    account.sync()
    call_id = started(account)[0]["call_id"]
    before = show(account.database, call_id)
    account.delete(call_id)
    assert figures(account.sync(FIRST)) == {"unchanged": 19, "gone": 1}
    assert gone(db) == {call_id}
    assert show(account.database, call_id) == before
    asked = len(account.between.gets())
    assert figures(account.sync(FIRST)) == {"unchanged": 19}
    assert len(account.between.gets()) == asked
    rebuild(account.store, progress=lambda *_: None)
    assert gone(db) == {call_id}


@pytest.mark.parametrize(
    "answer",
    [
        (404, b'{"status":"error","message":"Not Found"}'),
        (422, b'{"status":"error","message":"Cannot find requested asset under given api key."}'),
        (400, b'{"status":"error","message":"Not Found"}'),
    ],
    ids=["404", "422", "Not Found"],
)
def test_a_call_deleted_between_list_and_get_is_kept_as_it_was_listed(account, db, answer):
    account.populate(10)
    call_id = started(account)[0]["call_id"]
    account.between.meddle = lambda _, path, __: answer if path.endswith(call_id) else None
    assert figures(account.sync()) == {"new": 9, "gone": 1}
    assert gone(db) == {call_id}
    assert show(account.database, call_id) == without_transcript(account.box.calls[call_id])
    account.sync(FIRST)
    assert account.between.gets().count(call_id) == 1


def test_an_erased_call_is_not_fetched(account, db):
    account.populate(5)
    call_id = next(iter(account.box.calls))
    db.execute("INSERT INTO erasures VALUES (?, 1, 'asked to')", (call_id,))
    account.sync()
    assert call_id not in account.between.gets()
    assert call_id not in stored(db)


# -- what gets in between ------------------------------------------------------------------------


def test_a_call_that_cannot_be_fetched_is_counted_kept_as_listed_and_asked_for_again(account, db):
    account.populate(20)
    call_id = next(c for c in started(account) if c["transcript"])["call_id"]
    account.between.meddle = lambda _, path, __: (500, b"") if path.endswith(call_id) else None
    counts = account.sync()
    assert figures(counts) == {"new": 19, "failed": 1}
    assert list(counts.reasons) == [call_id]
    assert stored(db) == set(account.box.calls)
    account.between.meddle = lambda *_: None
    assert figures(account.sync(FIRST)) == {"unchanged": 19, "changed": 1}
    assert "transcript" in show(account.database, call_id)


def test_when_every_call_fails_it_stops_and_keeps_what_it_had(account, db):
    account.populate(20)
    ids = set()

    def meddle(_, path, __):
        if "get-call" not in path:
            return None
        ids.add(path)
        return (500, b"") if len(ids) > 3 else None

    account.between.meddle = meddle
    with pytest.raises(RetellFailed):
        account.sync()
    assert len(ids) == 3 + fetching.MAX_FAILURES
    [(n,)] = db.execute("SELECT count(*) FROM transcripts").fetchall()
    assert n <= 3
    account.between.meddle = lambda *_: None
    account.sync()
    assert stored(db) == set(account.box.calls)


def test_rate_limits_are_waited_out(database, db):
    limits = {"other": Limit(20, 10_000), "list": Limit(2, 10_000)}
    with Account(database, limits=limits) as account:
        account.populate(50)
        assert figures(account.sync()) == {"new": 50}
        assert max(account.slept) > 5


def test_a_page_that_vanishes_makes_its_day_begin_again(account, db, monkeypatch):
    monkeypatch.setattr(fetching, "BATCH", 5)
    monkeypatch.setattr("receiver.upstream.sync.BATCH", 5)
    account.populate(20, days=1)
    refused = []

    def meddle(_, path, body):
        if b"pagination_key" not in body or len(refused) == 1:
            return None
        refused.append(body)
        return 400, b'{"status":"error","message":"Invalid pagination_key"}'

    account.between.meddle = meddle
    assert figures(account.sync()) == {"new": 20}
    assert len(refused) == 1


BROKEN = {
    "no items": {"has_more": False},
    "items that are no objects": {"items": ["x"], "has_more": False},
    "an item without an id": {"items": [{"call_status": "ended"}], "has_more": False},
    "more, but not where": {"items": [], "has_more": True},
    "the same page again": {"items": [], "has_more": True, "pagination_key": "x"},
    "a bare list": [],
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_a_list_that_is_none_stops_it_with_an_error(account, answer):
    account.between.meddle = lambda *_: (200, json.dumps(answer).encode())
    with pytest.raises(UnexpectedAnswer):
        account.sync(FIRST, FIRST)


def test_an_answer_about_another_call_is_not_taken(account, db):
    account.populate(3)
    ids = list(account.box.calls)
    wrong = json.dumps(account.box.calls[ids[1]]).encode()
    account.between.meddle = lambda _, path, __: (200, wrong) if path.endswith(ids[0]) else None
    assert figures(account.sync()) == {"new": 2, "failed": 1}
    assert show(account.database, ids[0])["call_id"] == ids[0]


def test_a_wrong_key_stops_it_at_once(account):
    account.between.meddle = lambda *_: (401, b"{}")
    with pytest.raises(KeyRefused):
        account.sync()
    assert len(account.between.requests) == 1


# -- interrupted and resumed ---------------------------------------------------------------------


def test_an_interrupted_sync_goes_on_with_the_day_it_was_at(account, db):
    account.populate(40)

    def stop(step):
        if step.days_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        account.sync(FIRST, stop=stop)
    [(day, finished)] = db.execute("SELECT next_day, finished_at FROM syncs").fetchall()
    assert (day, finished) == ("2026-05-11", None)
    asked = account.between.gets()
    days = []
    account.sync(FIRST, stop=lambda step: days.append(step.day))
    assert days[0] == date(2026, 5, 11)
    assert len(account.between.gets()) == len(set(account.between.gets())) > len(asked) > 0
    assert stored(db) == set(account.box.calls)


def test_the_same_days_once_done_are_listed_from_the_first_again(account):
    account.populate(8)
    account.sync(FIRST)
    days = []
    account.sync(FIRST, stop=lambda step: days.append(step.day))
    assert days[0] == FIRST


def test_what_was_fetched_of_a_page_is_kept_when_it_is_interrupted(account, db):
    account.populate(20, days=1)
    seen = []

    def meddle(_, path, __):
        if "get-call" in path:
            seen.append(path)
        return (401, b"{}") if len(seen) > 7 else None

    account.between.meddle = meddle
    with pytest.raises(KeyRefused):
        account.sync()
    assert len(stored(db)) == 7
    account.between.meddle = lambda *_: None
    assert figures(account.sync()) == {"new": 13, "unchanged": 7}


def test_a_database_that_is_moved_meanwhile_stops_it(account, db_path):
    account.populate(3)

    def meddle(_, path, __):
        if "get-call" in path and db_path.exists():
            db_path.rename(db_path.with_name("moved.db"))

    account.between.meddle = meddle
    with pytest.raises(CallhouseError):
        account.sync(FIRST)


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def requests() -> list[str]:
    return []


@pytest.fixture
def box(requests):
    def note(method, path, status):
        requests.append(path)

    with Sandbox(api_key=KEY, seed=1, speed=0, limits=None, on_request=note) as box:
        box.populate(calls=150, days=3)
        yield box


@pytest.fixture
def environ(database, box):
    return {
        "RETELL_API_KEY": KEY,
        "RETELL_BASE_URL": box.url,
        "CALLHOUSE_DATABASE_URL": url_of(database),
    }


@pytest.mark.slow_on_postgres
def test_the_command_makes_the_database_and_says_what_it_found(environ, engine):
    with engine.nothing() as where:
        environ["CALLHOUSE_DATABASE_URL"] = url_of(where)
        result = CliRunner(env=environ).invoke(main, ["sync"])
    assert (result.exit_code, result.output) == (
        0,
        "150 found: 150 new, 0 changed, 0 unchanged, 0 failed.\n",
    )


def test_the_command_says_what_stopped_it_and_what_to_do(environ):
    result = CliRunner(env=environ | {"RETELL_API_KEY": "key_wrong"}).invoke(main, ["sync"])
    assert result.exit_code == 1
    assert "Retell refuses the API key" in result.output


def test_the_command_wants_a_key_and_days_in_order(environ):
    assert CliRunner(env=environ | {"RETELL_API_KEY": ""}).invoke(main, ["sync"]).exit_code == 2
    for days in (["--since", "2026-05-02", "--until", "2026-05-01"], ["--since", "may"]):
        assert CliRunner(env=environ).invoke(main, ["sync", *days]).exit_code == 2


@pytest.mark.slow_on_postgres
def test_a_call_that_failed_makes_the_command_fail(environ, box):
    call_id = next(iter(box.calls))
    wrong = b'{"call_id": "another"}'
    with Meddler(
        box.url, lambda _, path, __: (200, wrong) if path.endswith(call_id) else None
    ) as between:
        result = CliRunner(env=environ | {"RETELL_BASE_URL": between.url}).invoke(main, ["sync"])
    assert result.exit_code == 1
    assert "149 new, 0 changed, 0 unchanged, 1 failed" in result.output
    assert f"{call_id}: Retell answered with something else" in result.output


@pytest.mark.slow_on_postgres
@pytest.mark.parametrize(
    "number",
    [
        pytest.param(signal.SIGINT, marks=pytest.mark.slow, id="SIGINT"),
        pytest.param(signal.SIGKILL, id="kill -9"),
    ],
)
def test_a_stopped_command_goes_on_and_fetches_no_kept_page_twice(
    environ, box, db, requests, number
):
    # Slow enough to be met on its way.
    def meddle(method, where, body):
        time.sleep(0.01)

    def start():
        return subprocess.Popen(
            [sys.executable, "-m", "receiver.cli", "sync"],
            env=os.environ | environ | {"RETELL_BASE_URL": between.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    with Meddler(box.url, meddle) as between:
        process = start()
        wait_until(lambda: len(stored(db)) >= 40)
        process.send_signal(number)
        output, _ = process.communicate(timeout=30)
        assert len(stored(db)) < 150
        if number == signal.SIGINT:
            assert process.returncode == 1
            assert "run the same again to go on" in output
        again = start()
        output, _ = again.communicate(timeout=60)
        assert (again.returncode, stored(db)) == (0, set(box.calls)), output
        # A day has fifty calls and is one page.
        assert len(between.gets()) <= 150 + 50
