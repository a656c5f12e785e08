"""Sync with something in between: failures, wrong answers and interruptions lose no call."""

import json
from datetime import date

import pytest

from receiver.errors import CallhouseError, KeyRefused, RetellFailed, UnexpectedAnswer
from receiver.retell import fetching
from receiver.sandbox.server import Limit
from receiver.store import show
from tests.support.upstream import FIRST, Account, figures, started, stored

pytestmark = pytest.mark.slow_on_postgres


@pytest.fixture
def account(database):
    with Account(database) as account:
        yield account


# -- what gets in between ------------------------------------------------------------------------


def test_failed_call_is_kept_and_fetched_again(account, db):
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


def test_sync_stops_when_every_call_fails(account, db):
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


@pytest.mark.slow
def test_rate_limits_are_waited_out(database, db):
    limits = {"other": Limit(20, 10_000), "list": Limit(2, 10_000)}
    with Account(database, limits=limits) as account:
        account.populate(50)
        assert figures(account.sync()) == {"new": 50}
        assert max(account.slept) > 5


def test_expired_page_key_restarts_the_day(account, db, monkeypatch):
    monkeypatch.setattr(fetching, "BATCH", 5)
    monkeypatch.setattr("receiver.retell.sync.BATCH", 5)
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
def test_invalid_list_stops_the_sync(account, answer):
    account.between.meddle = lambda *_: (200, json.dumps(answer).encode())
    with pytest.raises(UnexpectedAnswer):
        account.sync(FIRST, FIRST)


def test_response_about_another_call_is_refused(account, db):
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


def test_interrupted_sync_continues_at_its_day(account, db):
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


def test_completed_days_are_listed_again_on_request(account):
    account.populate(8)
    account.sync(FIRST)
    days = []
    account.sync(FIRST, stop=lambda step: days.append(step.day))
    assert days[0] == FIRST


def test_interrupted_page_keeps_fetched_calls(account, db):
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
