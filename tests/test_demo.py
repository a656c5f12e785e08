"""The demo's processes and its days; `tests/test_end_to_end.py` runs it whole."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from statistics import mean

import pytest

from receiver import config, demo
from tests.support.storing import add, stored

# Each weekday is once the last day.
LAST_DAYS = [date(2026, 11, 23) + timedelta(days=n) for n in range(7)]


def month(last: date, seed: int = 1) -> dict[date, int]:
    """The calls of each day of the demo's month."""
    calls = {}
    for before in range(29, -1, -1):
        day = last - timedelta(days=before)
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        calls[day] = demo.usual_calls(seed, int(start.timestamp() * 1000), before)
    return calls


def test_demo_has_no_account_but_its_own(monkeypatch):
    monkeypatch.setenv("RETELL_API_KEY", "key_default")
    Path(".env").write_text("RETELL_API_KEY_ACME=key_acme\nRETELL_WEBHOOK_KEYS_B=key_b\n")
    settings = config.load()
    assert len(settings.accounts) == 3
    variables = demo.environment(settings, Path("x.db"), key="key_demo", password="secret")
    [account] = config.load(variables).accounts
    assert (account.name, account.webhook_keys) == ("default", ("key_demo",))


@pytest.mark.sqlite
def test_call_worth_hearing_has_nothing_quarantined(store, db, db_path):
    said = [{"role": role, "content": "Hello", "words": []} for role in ("agent", "user")]
    # The longer call is the one with a delivery that has no event name.
    for call_id, turns in {"fine": 1, "quarantined": 2}.items():
        add(store, "call_ended", call_id, transcript_object=said[:turns])
        db.execute(
            "INSERT INTO media_files (call_id, kind, state) VALUES (?, 'recording', 'kept')",
            [call_id],
        )
    db.commit()
    assert demo.deep_links(db_path)["A call worth hearing"] == "/-/call/quarantined"
    stored(store, {"name": "tool", "args": {}, "call": {"call_id": "quarantined"}}, at=2)
    assert demo.deep_links(db_path)["A call worth hearing"] == "/-/call/fine"


@pytest.mark.parametrize("last", LAST_DAYS)
class TestMonth:
    def test_same_seed_has_the_same_days(self, last):
        assert month(last) == month(last)
        assert month(last) != month(last, seed=2)

    def test_weekends_are_quieter_in_each_week(self, last):
        days = list(month(last).items())
        for week in (days[:7], days[-7:]):
            weekend = [calls for day, calls in week if day.weekday() >= 5]
            assert max(weekend) < mean(calls for day, calls in week if day.weekday() < 5)

    def test_last_week_exceeds_the_week_before(self, last):
        calls = list(month(last).values())
        assert 1.15 < sum(calls[-7:]) / sum(calls[-14:-7]) < 1.6

    def test_last_day_fits_in(self, last):
        *before, calls = month(last).values()
        assert min(before) < max(calls, demo.EVERY_KIND_CALLS) <= max(before)

    def test_holiday_has_the_fewest_calls(self, last):
        calls = month(last)
        holiday = min(calls, key=calls.__getitem__)
        assert calls[holiday] < 0.5 * calls[holiday - timedelta(days=7)]
