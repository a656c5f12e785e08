"""Coverage: what Retell has and the warehouse lacks is a list, and `--fix` mends it."""

import json
from collections import Counter
from datetime import date, timedelta

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.retell.coverage import Report
from receiver.store import rebuild
from receiver.webhook.signature import key_id
from tests.support.engines import url_of
from tests.support.storing import ERASE
from tests.support.upstream import DAY_MS, FIRST, PAST_MS, Account, figures, started
from tests.support.webhooks import KEY

pytestmark = pytest.mark.slow_on_postgres


@pytest.fixture
def account(database):
    with Account(database) as account:
        yield account


def rows(db) -> list[dict]:
    return [dict(row) for row in db.execute("SELECT * FROM coverage ORDER BY day, agent_id")]


def total(report, name):
    return getattr(report.total(), name)


def test_empty_database_lacks_every_call(account, db):
    account.populate(60)
    _, report = account.coverage()
    calls = account.box.calls
    assert sorted(report.missing) == sorted(calls)
    assert not report.is_complete
    by_agent = Counter(call["agent_id"] for call in calls.values())
    found = Counter()
    for row in rows(db):
        found[row["agent_id"]] += row["listed"]
        assert (row["stored"], row["missing"]) == (0, row["listed"])
        assert len(json.loads(row["missing_call_ids"])) == row["listed"]
    assert found == by_agent
    assert {row["day"] for row in rows(db)} == {
        (FIRST + timedelta(days=n)).isoformat() for n in range(4)
    }


def test_times_in_microseconds_stop_nothing(account, db):
    account.populate(10)
    call = started(account)[0]
    for field in ("start_timestamp", "end_timestamp"):
        call[field] *= 1000
    assert call["call_id"] in account.coverage()[1].missing
    account.sync()
    row = db.execute(
        "SELECT start_timestamp, end_timestamp FROM calls WHERE call_id = ?", (call["call_id"],)
    ).fetchone()
    assert tuple(row) == (None, None)
    assert account.coverage()[1].is_complete
    assert not figures(account.sync()).keys() - {"unchanged"}


def test_exactly_the_missing_calls_are_named(account, db):
    account.populate(30)
    calls = list(account.box.calls.values())
    talks = [c for c in calls if c.get("transcript") and "call_analysis" in c]
    untold, cut = talks[0], talks[1]
    for call in calls:
        if call is cut:
            account.tell(
                {k: v for k, v in call.items() if k != "call_analysis"}, event="call_ended"
            )
        elif call is not untold:
            account.tell(call)
    _, report = account.coverage()
    assert report.missing == [untold["call_id"]]
    assert report.incomplete == [cut["call_id"]]
    assert total(report, "stored") == 29
    assert account.between.gets() == []
    before, after = account.coverage(fix=True)
    assert (before.missing, before.incomplete) == (report.missing, report.incomplete)
    assert after.is_complete
    assert sorted(account.between.gets()) == sorted([untold["call_id"], cut["call_id"]])
    assert sum(row["missing"] + row["incomplete"] for row in rows(db)) == 0


@pytest.mark.slow
def test_figures_are_of_what_is_stored(account):
    account.populate(60)
    account.sync()
    _, report = account.coverage()
    assert report.is_complete
    kept = [c for c in account.box.calls.values() if "transcript" in c]
    assert total(report, "with_transcript") == len(kept) < 60
    for name in ("listed", "stored", "ended", "analysed", "with_final_cost"):
        assert total(report, name) == 60, name


def test_ongoing_call_is_not_incomplete(database):
    with Account(database, speed=1, scenario="endless") as account:
        account.place()
        account.now_ms += 60_000
        account.box.wake()
        account.sync()
        _, report = account.coverage()
        assert report.is_complete
        assert (total(report, "listed"), total(report, "ended")) == (1, 0)


def test_gone_call_is_shown_and_not_missing(account, db):
    account.populate(20)
    account.sync()
    call_id = next(i for i, c in account.box.calls.items() if "start_timestamp" in c)
    account.delete(call_id)
    _, report = account.coverage()
    assert report.is_complete
    assert (total(report, "listed"), total(report, "gone_upstream")) == (19, 1)
    rebuild(account.store, progress=lambda *_: None)
    assert sum(row["gone_upstream"] for row in rows(db)) == 1
    asked = len(account.between.gets())
    _, report = account.coverage()
    assert total(report, "gone_upstream") == 1
    assert len(account.between.gets()) == asked


def test_an_erased_call_is_counted_and_not_missing(account, db):
    account.populate(10)
    account.sync()
    call_id = next(iter(account.box.calls))
    db.execute(ERASE, (call_id, 1))
    rebuild(account.store, progress=lambda *_: None)
    _, report = account.coverage()
    assert report.is_complete
    assert (total(report, "listed"), total(report, "stored")) == (10, 9)
    assert total(report, "erased") == 1


@pytest.mark.slow
def test_only_the_given_days_and_agent_are_replaced(account, db):
    account.populate(60)
    account.coverage()
    before = rows(db)
    agent = before[0]["agent_id"]
    account.sync()
    account.coverage(FIRST + timedelta(days=1), FIRST + timedelta(days=1), agent=agent)
    changed = [(a, b) for a, b in zip(before, rows(db), strict=True) if a["stored"] != b["stored"]]
    assert [(b["day"], b["agent_id"]) for _, b in changed] == [("2026-05-10", agent)]


def test_rows_of_days_without_calls_at_retell_go(account, db):
    account.populate(8, days=2)
    account.populate(4, days=1, day_start_ms=PAST_MS + 3 * DAY_MS)
    account.coverage()
    for call_id, call in account.box.calls.items():
        if call.get("start_timestamp", PAST_MS) < PAST_MS + 2 * DAY_MS:
            account.delete(call_id)
    account.coverage()
    assert {row["day"] for row in rows(db)} == {"2026-05-12"}


def test_days_without_calls_are_passed_over(account):
    account.populate(4, days=1, day_start_ms=PAST_MS - 300 * DAY_MS)
    account.populate(4, days=1)
    account.coverage()
    assert len(account.between.requests) < 20


def test_calls_without_start_count_on_listed_day(account, db):
    account.populate(200, days=2)
    account.coverage()
    unstarted = [c for c in account.box.calls.values() if "start_timestamp" not in c]
    assert unstarted
    assert {row["day"] for row in rows(db)} == {"2026-05-09", "2026-05-10"}
    assert sum(row["listed"] for row in rows(db)) == 200


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def run(account, monkeypatch):
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    monkeypatch.setenv("RETELL_BASE_URL", account.between.url)
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(account.database))
    return lambda *args: CliRunner().invoke(main, ["coverage", *args])


def test_command_fails_until_missing_ids_are_stored(run, account):
    account.populate(15)
    result = run()
    assert result.exit_code == 1
    assert "15 are missing and 0 lack something" in result.output
    for call_id in account.box.calls:
        assert f"missing     {call_id}" in result.output
    result = run("--fix")
    assert result.exit_code == 0
    assert "15 found: 15 new, 0 changed, 0 unchanged, 0 failed." in result.output
    assert (
        "everything that Retell has of the 15 calls and chats it lists is stored." in result.output
    )
    assert run().exit_code == 0


@pytest.mark.slow
def test_many_ids_are_cut_except_in_json(run, account):
    account.populate(50)
    assert "and 30 more missing: --json lists them all" in run().output
    result = run("--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert sorted(found["missing_call_ids"]) == sorted(account.box.calls)
    assert (found["complete"], found["total"]["listed"]) == (False, 50)
    assert sum(day["listed"] for day in found["days"]) == 50
    fixed = json.loads(run("--json", "--fix").stdout)
    assert (fixed["complete"], fixed["fetched"]["new"]) == (True, 50)


def test_the_command_without_calls_says_so(run):
    result = run()
    assert (result.exit_code, result.output) == (0, "Retell lists no calls or chats.\n")


def test_a_list_that_fails_is_an_error(run, account):
    account.between.meddle = lambda *_: (401, b"{}")
    result = run()
    assert result.exit_code == 1
    assert "Retell rejected the API key" in result.output


def test_failed_fix_leaves_the_call_listed(run, account):
    account.populate(5)
    call_id = next(i for i, c in account.box.calls.items() if c.get("transcript"))
    wrong = b'{"call_id": "another"}'
    account.between.meddle = lambda _, path, __: (200, wrong) if path.endswith(call_id) else None
    result = run("--fix")
    assert result.exit_code == 1
    assert f"incomplete  {call_id}" in result.output
    assert figures(account.sync(date(2026, 5, 9))) == {"unchanged": 4, "failed": 1}


def test_unlisted_call_that_fails_is_named(run, account):
    account.populate(5)
    account.sync()
    call_id = next(iter(account.box.calls))
    account.delete(call_id)
    wrong = b'{"call_id": "another"}'
    account.between.meddle = lambda _, path, __: (200, wrong) if path.endswith(call_id) else None
    for arguments in ([], ["--json"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert f"{call_id}: Retell answered with another call" in result.stderr


# -- two keys on one database --------------------------------------------------------------------


def test_rows_without_an_agent_are_of_their_account():
    first, second, both = Report(), Report(), Report()
    first.row(FIRST, "").missing_call_ids.append("call_a")
    second.row(FIRST, "").listed += 1
    both.add(first, "default")
    both.add(second, "acme")
    assert (both.missing, both.total().listed) == (["call_a"], 1)


def test_a_second_key_leaves_the_first_keys_rows(account, database, db):
    account.populate(40)
    account.coverage()
    before = rows(db)
    with Account(database, seed=2, key="key_of_another_account") as other:
        other.populate(10)
        other.coverage()
        first, second = key_id(account.key), key_id(other.key)
    assert [row for row in rows(db) if row["key_id"] == first] == before
    assert sum(row["listed"] for row in rows(db) if row["key_id"] == second) == 10


def test_new_key_replaces_rows_of_its_agents(account, db):
    account.populate(40)
    account.coverage()
    before = rows(db)
    account.known_as = "key_after_rotation"
    account.coverage(fix=True)
    assert [(r["day"], r["agent_id"]) for r in rows(db)] == [
        (r["day"], r["agent_id"]) for r in before
    ]
    assert {r["missing"] for r in rows(db)} == {0}
