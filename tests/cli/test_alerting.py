"""`callhouse alerts`: list, test, acknowledge, snooze."""

import json

import pytest
from click.testing import CliRunner

from receiver.cli.group import main
from tests.support.engines import url_of
from tests.support.storing import rows
from tests.support.webhooks import KEY

RULE = """
[[alerts.rule]]
name = "mine"
sql = "SELECT 'k' AS key, 'it is so' AS text WHERE :now > 0"
"""


@pytest.fixture
def invoke(database, monkeypatch, tmp_path):
    (tmp_path / "callhouse.toml").write_text(RULE)
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    return lambda *args: CliRunner().invoke(main, ["alerts", *args])


def test_alert_is_listed_acknowledged_and_snoozed(invoke, db):
    assert invoke().output == "No alert is open.\n"
    assert CliRunner().invoke(main, ["work", "--once", "alerts"]).exit_code == 0
    listed = invoke()
    assert listed.exit_code == 1
    assert "it is so" in listed.output
    [alert] = json.loads(invoke("--json").output)
    begin = alert["alert_id"][:5]
    assert invoke("ack", begin).output == "1 acknowledged.\n"
    assert invoke("snooze", begin, "--for", "2h").output.startswith("1 snoozed until ")
    [(who, until)] = rows(db, "SELECT acknowledged_by, snoozed_until FROM alerts")
    assert who
    assert until > alert["opened_at"]
    assert "snoozed" in invoke().output
    assert "0 open alerts" in invoke("ack", "zzz").output
    assert invoke("snooze", begin, "--for", "2 h").exit_code == 2


def test_rule_is_tried_on_the_past(invoke):
    answer = invoke("test", "mine", "--days", "1")
    assert "1 time in the last 1 days" in answer.output
    assert "it is so" in answer.output
    [episode] = json.loads(invoke("test", "mine", "--days", "1", "--json").output)
    assert episode["resolved_at"] is None
    assert "not stored" in invoke("test", "health").output
    assert "no rule nobody" in invoke("test", "nobody").output
