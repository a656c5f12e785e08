"""The life of a placed call: deterministic, believable, at the speed that was asked for."""

import json
from collections import Counter
from datetime import datetime
from random import Random

import httpx
import pytest

from receiver.errors import CallhouseError, SettingsError
from receiver.sandbox.companies import Account, account_agents
from receiver.sandbox.orders import next_ms, parse
from receiver.sandbox.plans import BY_NAME, SCENARIOS, UNANSWERED
from receiver.sandbox.server import Sandbox
from receiver.sandbox.workspace import Placing, live
from receiver.store import receive
from tests.support.inbox import Inbox
from tests.support.running import wait_until
from tests.support.webhooks import KEY, NOW_MS

pytestmark = pytest.mark.slow_on_postgres

SOLAR = "+12065550117"
LIVED = [scenario for scenario in SCENARIOS if not scenario.error]


class Clock:
    """A clock that only moves when it is told to."""

    def __init__(self):
        self.ms = NOW_MS

    def __call__(self):
        return self.ms


def placing(scenario=None, *, agent=-1, web=False, **given):
    versions = list(account_agents(Account(Random(1))).values())[agent]
    numbers = {"from_number": SOLAR, "to_number": "+14155550101", "direction": "outbound"}
    name = BY_NAME[scenario] if scenario else None
    return Placing((numbers | given) if not web else given, versions[-1], name, NOW_MS, web=web)


def lived(*args, seed=1, **more):
    return live(Random(seed), Account(Random(1)), placing(*args, **more))


def place(sandbox, to_number=BY_NAME["answered"].number):
    headers = {"Authorization": f"Bearer {KEY}"}
    order = {"from_number": SOLAR, "to_number": to_number}
    answer = httpx.post(
        f"{sandbox.url}/v2/create-phone-call", json=order, headers=headers, timeout=30
    )
    return answer.raise_for_status().json()["call_id"]


def stop(sandbox, call_id):
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.post(
        f"{sandbox.url}/v2/stop-call/{call_id}", headers=headers, timeout=30
    ).status_code


def test_numbers_and_names_choose_one_scenario_each():
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    assert len({scenario.number for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize("scenario", [None, *(scenario.name for scenario in LIVED)])
def test_life_depends_on_seed_and_order_only(scenario):
    assert lived(scenario) == lived(scenario)
    assert lived(scenario) != lived(scenario, seed=2)


@pytest.mark.parametrize("scenario", LIVED, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("agent", range(8))
def test_every_agent_can_live_every_scenario(scenario, agent):
    for seed in range(5):
        life = lived(scenario.name, agent=agent, seed=seed)
        assert life.registered["call_status"] == "registered"
        times = [event.at_ms for event in life.events]
        assert times == sorted(times)
        assert times[0] > NOW_MS
        ids = {event.content["call"]["call_id"] for event in life.events}
        assert ids == {life.registered["call_id"]}


@pytest.mark.parametrize("web", [False, True])
def test_a_call_keeps_what_it_was_registered_with(web):
    life = lived("answered", web=web, metadata={"a": 1})
    last = life.events[-1].content["call"]
    changing = {"call_status", "latency", "call_cost", "custom_sip_headers"}
    for name in life.registered.keys() - changing:
        assert last[name] == life.registered[name], name


def test_values_without_an_order_are_not_invented():
    last = lived("answered").events[-1].content["call"]
    assert not {"metadata", "retell_llm_dynamic_variables", "batch_call_id"} & last.keys()


@pytest.mark.parametrize("scenario", ["busy", "voicemail", None])
def test_nobody_dials_a_web_call(scenario):
    for seed in range(20):
        last = lived(scenario, web=True, seed=seed).events[-1].content["call"]
        assert (last["call_type"], last["call_status"]) == ("web_call", "ended")
        assert last["disconnection_reason"] not in {"dial_busy", "voicemail_reached"}


def test_other_numbers_get_usual_scenarios():
    reasons = Counter(
        lived(seed=seed).events[-1].content["call"]["disconnection_reason"] for seed in range(300)
    )
    assert {*UNANSWERED, "voicemail_reached", "agent_hangup"} <= reasons.keys()
    assert reasons["agent_hangup"] > 100


def test_default_scenario_applies_to_other_numbers():
    with Sandbox(api_key=KEY, scenario="busy") as sandbox:
        plain, chosen = place(sandbox, "+14155550101"), place(sandbox)
        sandbox.settle(20)
        assert sandbox.calls[plain]["disconnection_reason"] == "dial_busy"
        assert sandbox.calls[chosen]["call_status"] == "ended"


def test_unknown_scenario_lists_the_known_ones():
    with pytest.raises(SettingsError) as error:
        Sandbox(api_key=KEY, scenario="rainy")
    assert "voicemail" in error.value.hint


def test_the_same_seed_places_the_same_calls():
    def history(seed):
        with Sandbox(api_key=KEY, seed=seed, now_ms=Clock()) as sandbox:
            for _ in range(3):
                place(sandbox, "+14155550101")
            sandbox.populate(calls=40, days=2)
            sandbox.settle(20)
            # The links to recordings have the sandbox's port.
            return json.loads(json.dumps(sandbox.calls).replace(sandbox.url, ""))

    assert history(1) == history(1)
    assert not history(1).keys() & history(2).keys()


def test_past_is_spread_over_its_days_only():
    day_ms = 86_400_000
    with Sandbox(api_key=KEY) as sandbox:
        sandbox.populate(calls=101, day_start_ms=20_000 * day_ms, days=3)
        sandbox.populate(calls=7, day_start_ms=20_003 * day_ms)
        assert len(sandbox.calls) == 108
        sandbox.populate(calls=[2, 0, 3], day_start_ms=20_004 * day_ms)
        starts = [c["start_timestamp"] for c in sandbox.calls.values() if "start_timestamp" in c]
    assert len(sandbox.calls) == 113
    days = Counter(start // day_ms for start in starts)
    assert days.keys() == {*range(20_000, 20_005), 20_006}
    assert (days[20_004], days[20_006]) == (2, 3)


def test_real_speed_waits_for_each_event():
    clock = Clock()
    with Inbox() as inbox:
        url = f"{inbox.url}/webhook"
        with Sandbox(api_key=KEY, speed=2, webhook_url=url, now_ms=clock) as sandbox:
            call_id = place(sandbox)
            with pytest.raises(CallhouseError):
                sandbox.settle(0.05)
            assert sandbox.calls[call_id]["call_status"] == "registered"
            # It rings for at most fifteen seconds, and talks for more than twenty.
            clock.ms += 8_000
            sandbox.wake()
            wait_until(lambda: sandbox.calls[call_id]["call_status"] == "ongoing")
            wait_until(lambda: inbox.events == ["call_started"])
            clock.ms += 600_000
            sandbox.wake()
            sandbox.settle(20)
            assert sandbox.calls[call_id]["call_status"] == "ended"
            assert inbox.events == ["call_started", "call_ended", "call_analyzed"]
            assert [m.signed_ms - NOW_MS for m in inbox.mails] == [8_000, 608_000, 608_001]


def batch(sandbox, **more):
    headers = {"Authorization": f"Bearer {KEY}"}
    tasks = [{"to_number": f"+1415555014{n}"} for n in range(2)]
    order = {"from_number": SOLAR, "tasks": tasks} | more
    return httpx.post(f"{sandbox.url}/create-batch-call", json=order, headers=headers, timeout=30)


def at(text):
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def test_batch_waits_for_its_time_window():
    """It is sent on a Friday evening, and may be placed on weekdays from nine."""
    clock = Clock()
    clock.ms = at("2026-05-15T18:30:00+02:00")
    weekdays = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"]
    windows = [{"start": 840, "end": 1080}, {"start": 540, "end": 720}]
    window = {"windows": windows, "day": weekdays, "timezone": "Europe/Berlin"}
    with Sandbox(api_key=KEY, speed=1, now_ms=clock) as sandbox:
        answer = batch(sandbox, call_time_window=window)
        assert answer.json()["call_time_window"] == window
        clock.ms = at("2026-05-18T08:59:59+02:00")
        sandbox.wake()
        with pytest.raises(CallhouseError):
            sandbox.settle(0.05)
        assert sandbox.calls == {}
        clock.ms = at("2026-05-18T10:00:00+02:00")
        sandbox.wake()
        wait_until(lambda: len(sandbox.calls) == 2)
        sandbox.settle(20)
        starts = [call.get("start_timestamp", clock.ms) for call in sandbox.calls.values()]
        assert all(at("2026-05-18T09:00:00+02:00") <= start <= clock.ms for start in starts)


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        # Within a window, between two, after the last one of the week, and where clocks change.
        ("2026-05-18T10:30:00+02:00", "2026-05-18T10:30:00+02:00"),
        ("2026-05-18T12:00:00+02:00", "2026-05-18T14:00:00+02:00"),
        ("2026-05-19T18:00:00+02:00", "2026-05-25T09:00:00+02:00"),
        ("2026-03-24T18:00:00+01:00", "2026-03-30T09:00:00+02:00"),
    ],
)
def test_next_time_of_a_window(now, opens):
    windows = [{"start": 840, "end": 1080}, {"start": 540, "end": 720}]
    given = {"windows": windows, "day": ["Monday", "Tuesday"], "timezone": "Europe/Berlin"}
    assert next_ms(parse("time window", given), at(now)) == at(opens)


def test_window_without_a_time_zone_is_californian():
    window = parse("time window", {"windows": [{"start": 540, "end": 1080}]})
    assert next_ms(window, at("2026-05-18T12:00:00+00:00")) == at("2026-05-18T09:00:00-07:00")


def test_stopped_call_has_no_later_events():
    clock = Clock()
    with Inbox() as inbox:
        url = f"{inbox.url}/webhook"
        with Sandbox(api_key=KEY, speed=1, webhook_url=url, now_ms=clock) as sandbox:
            call_id = place(sandbox)
            clock.ms += 25_000
            sandbox.wake()
            wait_until(lambda: sandbox.calls[call_id]["call_status"] == "ongoing")
            wait_until(lambda: inbox.events == ["call_started"])
            clock.ms += 2_000
            assert stop(sandbox, call_id) == 204
            assert stop(sandbox, call_id) == 204, "until it has ended"
            clock.ms += 3_600_000
            sandbox.wake()
            sandbox.settle(20)
            call = sandbox.calls[call_id]
            assert stop(sandbox, call_id) == 400
    assert (call["call_status"], call["disconnection_reason"]) == ("ended", "manual_stopped")
    assert call["end_timestamp"] == NOW_MS + 27_000
    assert call["duration_ms"] == call["end_timestamp"] - call["start_timestamp"]
    last_word = call["transcript_object"][-1]["words"][0]["start"]
    assert 0 <= last_word * 1000 <= call["duration_ms"]
    assert inbox.events == ["call_started", "call_ended", "call_analyzed"]


def test_call_stopped_while_ringing_never_began():
    clock = Clock()
    with Inbox() as inbox:
        url = f"{inbox.url}/webhook"
        with Sandbox(api_key=KEY, speed=1, webhook_url=url, now_ms=clock) as sandbox:
            call_id = place(sandbox)
            assert stop(sandbox, call_id) == 204
            clock.ms += 3_600_000
            sandbox.wake()
            sandbox.settle(20)
            call = sandbox.calls[call_id]
    assert (call["call_status"], call["disconnection_reason"]) == ("ended", "manual_stopped")
    assert "start_timestamp" not in call
    assert inbox.events == ["call_ended", "call_analyzed"]


def test_updates_survive_the_end_of_transfer():
    clock, transfer = Clock(), BY_NAME["transfer"].number
    with Sandbox(api_key=KEY, now_ms=clock) as sandbox:
        call_id = place(sandbox, transfer)
        leg_ends_ms = sandbox.calls[call_id]["transfer_end_timestamp"]
    with Inbox() as inbox:
        url = f"{inbox.url}/webhook"
        with Sandbox(api_key=KEY, speed=1, webhook_url=url, now_ms=clock) as sandbox:
            call_id = place(sandbox, transfer)
            clock.ms = leg_ends_ms - 1000
            sandbox.wake()
            wait_until(lambda: inbox.events[-1:] == ["call_analyzed"])
            headers = {"Authorization": f"Bearer {KEY}"}
            path, body = f"/v2/update-call/{call_id}", {"metadata": {"seen": True}}
            assert httpx.patch(sandbox.url + path, json=body, headers=headers).is_success
            clock.ms += 3_600_000
            sandbox.wake()
            sandbox.settle(20)
            call = sandbox.calls[call_id]
    assert call["metadata"] == inbox.mails[-1].call["metadata"] == {"seen": True}
    assert (inbox.events[-1], "transfer_end_timestamp" in call) == ("transfer_ended", True)


def test_callback_errors_are_raised_by_settle():
    def fail(_):
        raise ZeroDivisionError

    url = "http://127.0.0.1:9/"
    with Sandbox(api_key=KEY, webhook_url=url, on_delivery=fail) as sandbox:
        place(sandbox)
        with pytest.raises(ZeroDivisionError):
            sandbox.settle(20)


def test_finished_calls_do_not_count_as_concurrent():
    with Sandbox(api_key=KEY, concurrency=1) as sandbox:
        assert len({place(sandbox) for _ in range(5)}) == 5


def test_deleted_call_has_no_later_events():
    clock = Clock()
    with Inbox() as inbox:
        url = f"{inbox.url}/webhook"
        with Sandbox(api_key=KEY, speed=1, webhook_url=url, now_ms=clock) as sandbox:
            call_id = place(sandbox)
            headers = {"Authorization": f"Bearer {KEY}"}
            httpx.delete(f"{sandbox.url}/v2/delete-call/{call_id}", headers=headers)
            clock.ms += 3_600_000
            sandbox.wake()
            sandbox.settle(20)
            assert (sandbox.calls, inbox.mails) == ({}, [])


@pytest.mark.slow
def test_webhooks_of_every_scenario_are_stored(store, db):
    for scenario in LIVED:
        with Inbox() as inbox, Sandbox(api_key=KEY, webhook_url=inbox.url) as sandbox:
            place(sandbox, scenario.number)
            sandbox.settle(20)
        for mail in inbox.mails:
            store.add(
                receive(
                    mail.body,
                    source="webhook",
                    observed_at=mail.signed_ms,
                    received_at=mail.signed_ms,
                )
            )
    rows = db.execute("SELECT problem, count(*) FROM observations GROUP BY 1").fetchall()
    assert [row["problem"] for row in rows] == [None]
