"""/-/alerts: what is open and what was, and the forms of those who may write."""

import re

import pytest

from receiver.store.alerts import Alert, Message, new_retell_alerts, write_run
from tests.support.browsing import browsing, fetched
from tests.support.posting import posted
from tests.support.storing import rows, stored

pytestmark = pytest.mark.sqlite


def alert(alert_id, **fields):
    values = {
        "rule": "success", "key": alert_id, "severity": "warning", "text": f"Text of {alert_id}",
        "figures": "{}", "link": "/-/calls?agent=a", "cause": None, "opened_at": 1,
        "seen_at": 2, "changed_at": 2,
    }  # fmt: skip
    return Alert(alert_id, **values | fields)


@pytest.fixture
def served(settings, store):
    opened = [
        alert("one"),
        alert("follows", cause="one"),
        alert("over", resolved_at=2**42),
        alert("old", resolved_at=5),
    ]
    message = Message("m", "t", 2**42, "Title <1>", "body", state="dead", problem="no answer")
    stored(store, {"event": "alert_triggered", "alert": {"name": "Too many <2>"}}, at=5)
    of_retell = store.read(lambda c: new_retell_alerts(c, now_ms=9))
    write_run(store, opened, [], [message], of_retell)
    with browsing(settings, {name: name for name in ("reviewer", "reader", "masked")}) as served:
        yield served


@pytest.fixture
def get(served):
    def get(user, path="/-/alerts"):
        return fetched(served, path, user).text

    return get


def test_rules_are_described_without_markup(get):
    found = re.findall(r'data-label="Finds">([^<]+)</td>', get("reader"))
    assert len(found) > 10
    assert "`" not in "".join(found)


def test_page_shows_open_and_resolved_alerts(get):
    page = get("masked")
    opened, _, rest = page.partition("more caused by these")
    assert "Text of one" in opened
    assert 'href="/-/calls?agent=a"' in opened
    assert "Text of follows" in rest
    assert "Text of over" in rest
    assert "Text of old" not in page
    assert "Title &lt;1&gt;" in rest
    assert "no answer" in rest
    assert "Too many &lt;2&gt;" in rest
    assert "Nobody is notified" in rest
    assert "<button>Acknowledge" not in page


def test_navigation_leads_to_alerts(get):
    assert '<a href="/-/alerts">Alerts</a>' in get("masked", "/-/status")


def test_reviewer_acknowledges_and_snoozes(served, get, db):
    assert "<button>Acknowledge" in get("reviewer")
    assert posted(served, "reviewer", "/-/alerts", alert="one").status_code == 302
    assert posted(served, "reviewer", "/-/alerts", alert="one", snooze="24").status_code == 302
    [(who, until)] = rows(
        db, "SELECT acknowledged_by, snoozed_until FROM alerts WHERE alert_id = 'one'"
    )
    assert (who, until > 86_400_000) == ("reviewer", True)
    page = get("reader")
    assert "Acknowledged by reviewer" in page
    assert "Snoozed until" in page


@pytest.mark.parametrize(
    ("user", "form", "status"),
    [
        ("reader", {"alert": "one"}, 403),
        ("reviewer", {"alert": "over"}, 400),
        ("reviewer", {"alert": "none"}, 400),
        ("reviewer", {"alert": "one", "snooze": "9999999"}, 400),
    ],
)
def test_alert_form_refuses_invalid_values(served, db, user, form, status):
    assert posted(served, user, "/-/alerts", **form).status_code == status
    changed = "SELECT alert_id FROM alerts WHERE acknowledged_by <> '' OR snoozed_until > 0"
    assert rows(db, changed) == []
