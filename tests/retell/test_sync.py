"""Sync against the sandbox: everything Retell has ends up here, once, however late it is over."""

import json
from datetime import date, timedelta

import httpx
import pytest

from receiver.store import rebuild, show
from receiver.webhook.signature import key_id
from tests.support.storing import ERASE
from tests.support.tables import dump
from tests.support.upstream import DAY_MS, FIRST, NOW_MS, PAST_MS, Account, figures, started, stored
from tests.support.webhooks import KEY

pytestmark = pytest.mark.slow_on_postgres


@pytest.fixture
def account(database):
    with Account(database) as account:
        yield account


def unsigned(call) -> dict:
    """The call with its links as they are without the signature, which each response renews."""
    return {
        k: v.partition("?")[0] if isinstance(v, str) and "://" in v else v for k, v in call.items()
    }


def without_transcript(call) -> dict:
    return {name: value for name, value in call.items() if "transcript" not in name}


# -- what is fetched -----------------------------------------------------------------------------


def test_existing_account_is_fetched_completely(account, db):
    account.populate(60)
    assert figures(account.sync()) == {"new": 60}
    assert stored(db) == set(account.box.calls)
    for call_id, call in account.box.calls.items():
        known = {k: v for k, v in call.items() if v is not None}
        assert unsigned(show(account.database, call_id)) == unsigned(known)


def test_second_sync_fetches_and_stores_nothing(account, db):
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


def test_calls_that_webhooks_reported_are_not_fetched(account, db):
    account.populate(40)
    calls = list(account.box.calls.values())
    for call in calls[:30]:
        account.tell(call)
    assert figures(account.sync()) == {"unchanged": 30, "new": 10}
    assert set(account.between.gets()) == {call["call_id"] for call in calls[30:]}


def test_list_item_never_erases_a_transcript(account, db):
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
def test_incomplete_call_is_fetched(account, db, event, cut):
    account.populate(12)
    whole = [c for c in started(account) if c["data_storage_setting"] == "everything"]
    for call in whole:
        account.tell(cut(call), event=event)
    account.sync()
    assert {call["call_id"] for call in whole} <= set(account.between.gets())
    for call in whole:
        assert show(account.database, call["call_id"])["transcript"] == call["transcript"]


def test_days_are_inclusive_in_the_time_zone(account, db):
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
def test_ongoing_call_is_fetched_by_next_sync(database, db, days):
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


def test_stuck_call_is_fetched_for_two_days(account, db):
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


def test_calls_of_another_workspace_are_not_fetched(account, db):
    account.populate(1)
    account.tell({"call_id": "theirs", "call_status": "ongoing"}, key="key_of_another_account")
    account.sync()
    assert "theirs" not in account.between.gets()


def test_later_sync_starts_two_days_earlier(account, db):
    account.populate(40)
    account.sync()
    account.between.requests.clear()
    account.now_ms += DAY_MS
    account.sync()
    [row] = db.execute("SELECT since, next_day FROM syncs WHERE since <> ''").fetchall()
    assert tuple(row) == ("2026-05-11", "2026-05-15")


def test_days_that_a_named_sync_skips_are_listed(account, db):
    account.populate(10)
    account.sync()
    account.now_ms += 10 * DAY_MS
    account.populate(10, days=1, day_start_ms=account.now_ms - 7 * DAY_MS)
    account.sync(FIRST + timedelta(days=14))
    assert len(stored(db)) == 10
    account.sync()
    assert len(stored(db)) == 20


# -- gone upstream -------------------------------------------------------------------------------


def gone(db) -> set[str]:
    rows = db.execute("SELECT call_id FROM upstream_calls WHERE gone_at IS NOT NULL")
    return {row["call_id"] for row in rows}


def test_deleted_call_is_kept_and_not_fetched(account, db):
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
def test_call_deleted_after_listing_is_kept(account, db, answer):
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
    db.execute(ERASE, (call_id, 1))
    account.sync()
    assert call_id not in account.between.gets()
    assert call_id not in stored(db)


def test_pruned_call_is_neither_fetched_nor_changed(account, db):
    account.populate(5)
    account.sync()
    call_id = started(account)[0]["call_id"]
    for statement in (
        "DELETE FROM analyses WHERE call_id = ?",
        "UPDATE observations SET body = NULL WHERE entity_id = ?",
        "INSERT INTO erasures (entity_id, scope) VALUES (?, 'raw')",
    ):
        db.execute(statement, (call_id,))
    asked, before = len(account.between.gets()), dump(db)["observations"]
    account.sync(FIRST)
    assert len(account.between.gets()) == asked
    assert dump(db)["observations"] == before
    _, report = account.coverage()
    assert (report.is_complete, report.total().stored, report.total().erased) == (True, 5, 0)


# -- two keys on one database --------------------------------------------------------------------


@pytest.fixture
def other(database):
    """Another workspace, with a key of its own."""
    with Account(database, seed=2, key="key_of_another_account") as other:
        yield other


def test_second_key_marks_no_call_gone(account, other, db):
    account.populate(30)
    other.populate(20)
    assert figures(account.sync(FIRST)) == {"new": 30}
    assert figures(other.sync(FIRST)) == {"new": 20}
    assert figures(account.sync(FIRST)) == {"unchanged": 30}
    assert gone(db) == set()
    call_id = started(other)[0]["call_id"]
    other.delete(call_id)
    _, report = account.coverage()
    assert report.is_complete
    assert report.total().listed == 30
    assert figures(other.sync(FIRST)) == {"unchanged": 19, "gone": 1}
    assert gone(db) == {call_id}
    _, report = account.coverage()
    assert report.total().gone_upstream == 0


def test_second_key_ignores_calls_without_key(account, other, db):
    account.populate(10)
    other.populate(5)
    account.sync(FIRST)
    db.execute("UPDATE observations SET key_id = NULL")
    other.tell(next(iter(other.box.calls.values())))
    call_id = started(account)[0]["call_id"]
    account.delete(call_id)
    account.sync(FIRST)
    assert gone(db) == set()


def positions(db) -> list[tuple]:
    rows = db.execute("SELECT key_id, next_day, finished_at IS NULL FROM syncs ORDER BY 1, 2")
    return [tuple(row) for row in rows]


def days_of(account, **options) -> list:
    """Run a sync; return the days it listed."""
    days = []
    account.sync(stop=lambda step: days.append(step.day), **options)
    return sorted(set(days))


def test_second_key_starts_from_the_oldest_call(account, other, db):
    account.populate(30)
    other.populate(20)
    account.sync()
    assert figures(other.sync()) == {"new": 20}
    keys = {key_id(account.key), key_id(other.key)}
    assert {(key, day) for key, day, _ in positions(db)} == {(key, "2026-05-14") for key in keys}
    # Each continues two days before its own last sync.
    assert days_of(account)[0] == days_of(other)[0] == date(2026, 5, 11)


def test_resuming_one_key_does_not_move_the_other(account, other, db):
    account.populate(40)
    other.populate(40)

    def stop(step):
        if step.days_done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        account.sync(FIRST, stop=stop)
    [first] = positions(db)
    assert first == (key_id(account.key), "2026-05-11", True)
    assert days_of(other, since=FIRST)[0] == FIRST
    assert first in positions(db)
    second = next(row for row in positions(db) if row != first)
    assert days_of(account, since=FIRST)[0] == date(2026, 5, 11)
    assert second in positions(db)
    assert stored(db) == set(account.box.calls) | set(other.box.calls)


def test_position_without_key_counts_for_single_key(account, other, db):
    account.populate(20)
    other.populate(5)
    account.sync()
    db.execute("UPDATE syncs SET key_id = ''")
    assert days_of(account)[0] == date(2026, 5, 11)
    db.execute("UPDATE syncs SET key_id = ''")
    assert figures(other.sync()) == {"new": 5}
    db.execute("DELETE FROM syncs WHERE key_id <> ''")
    assert days_of(account)[0] == FIRST


def test_a_new_key_fetches_no_complete_call_again(account, db):
    account.populate(40)
    account.sync()
    asked = len(account.between.gets())
    observations = dump(db)["observations"]
    account.known_as = "key_after_rotation"
    assert figures(account.sync(FIRST)) == {"unchanged": 40}
    assert len(account.between.gets()) == asked
    assert dump(db)["observations"] == observations
