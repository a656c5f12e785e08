"""What an inbound call or chat is answered, by rules and the caller's history."""

import json
import re
import time

import pytest
from click.testing import CliRunner

from receiver import config
from receiver.cli.group import main
from receiver.errors import SettingsError
from receiver.inbound_rules import InboundRequest
from receiver.store import migrate
from receiver.webhook.app import create_app
from receiver.webhook.health import INBOUND
from receiver.webhook.inbound import InboundRules, check_rules
from tests.support import ROOT
from tests.support.browsing import START, simple
from tests.support.engines import url_of
from tests.support.storing import held, rows, stored
from tests.support.webhooks import KEY, NOW_MS, post

CALLER = "+14155550123"
RULES = """
[[inbound.rule]]
name = "complaint"
events = ["call_inbound"]
match = { open_complaint = 1 }
agent_id = "agent_senior"
dynamic_variables = { name = "{name}", last_summary = "{last_summary}" }
metadata = { queue = "complaints" }

[[inbound.rule]]
name = "known"
history = '''
SELECT count(*) AS before FROM calls WHERE from_number = :from_number HAVING count(*) > 0'''
dynamic_variables = { calls = "{before}" }

[[inbound.rule]]
name = "night"
hours = "22:00-6:00"
agent_id = "agent_night"
"""
_HISTORY = """
calls is_known last_call_id last_agent_id last_agent_name last_outcome last_successful
last_sentiment last_summary name open_complaint
"""
# Reads for seconds, on both engines.
SLOW = """
[[inbound.rule]]
name = "slow"
history = '''
WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000)
SELECT count(*) AS c FROM n'''
"""


@pytest.fixture
def serve(database, tmp_path):
    """A client of a receiver with these rules."""
    apps = []

    def serve(rules):
        (tmp_path / "callhouse.toml").write_text(rules)
        values = {"RETELL_API_KEY": KEY, "RETELL_API_KEY_ACME": "key_acme"}
        settings = config.load(values | {"CALLHOUSE_DATABASE_URL": url_of(database)})
        migrate(database, timezone="UTC", account_keys=settings.account_keys)
        apps.append(create_app(settings, now_ms=lambda: NOW_MS, health_cache_seconds=0))
        return apps[-1].test_client()

    yield serve
    for app in apps:
        app.extensions["callhouse"]["store"].close()
        app.extensions["callhouse"]["counters"].close()


def ask(client, number=CALLER, event="call_inbound", **how):
    asked = {"agent_id": "agent_1", "from_number": number, "to_number": "+14155550199"}
    response = post(client, {"event": event, event: asked}, **how)
    assert response.status_code == 200
    return response.json[event]


def call(**fields):
    analysis = {"call_summary": "Wants her money back.", "user_sentiment": "Negative"}
    variables = {"customer_name": "Ada"}
    return simple(call_analysis=analysis, collected_dynamic_variables=variables, **fields) | {
        "event": "call_analyzed"
    }


def tag(store, name="complaint", removed="NULL", call_id="call_1"):
    store.run(
        lambda c: c.execute(
            "INSERT INTO annotations (entity_id, annotation_id, kind, name, removed_at) "
            f"VALUES ('{call_id}', 'a-{name}-{removed}', 'tag', '{name}', {removed})"
        )
    )


def test_first_rule_that_matches_answers(serve, store):
    client = serve(RULES)
    assert ask(client) == {}
    stored(store, call())
    assert ask(client) == {
        "dynamic_variables": {"calls": "1"},
        "metadata": {"callhouse_rule": "known"},
    }
    tag(store)
    assert ask(client) == {
        "override_agent_id": "agent_senior",
        "dynamic_variables": {"name": "Ada", "last_summary": "Wants her money back."},
        "metadata": {"queue": "complaints", "callhouse_rule": "complaint"},
    }
    assert ask(client, event="chat_inbound")["metadata"] == {"callhouse_rule": "known"}


def test_removed_tag_closes_a_complaint(serve, store):
    client = serve(RULES)
    stored(store, call())
    tag(store, removed="5")
    assert ask(client)["metadata"] == {"callhouse_rule": "known"}


def test_history_is_that_of_the_newest_call(serve, store):
    rule = '[[inbound.rule]]\nname = "r"\n[inbound.rule.metadata]\n'
    names = _HISTORY.split()
    client = serve(rule + "".join(f'{name} = "{{{name}}}"\n' for name in names))
    assert ask(client)["metadata"] == {
        "calls": "0",
        "is_known": "0",
        "open_complaint": "0",
        "callhouse_rule": "r",
    }
    stored(store, call())
    newer = {"call_successful": True, "user_sentiment": "Positive", "call_summary": "Fine."}
    stored(
        store,
        simple(
            "call_2",
            agent_id="agent_2",
            agent_name="Sales",
            disconnection_reason="agent_hangup",
            start_timestamp=START + 1,
            call_analysis=newer,
        ),
    )
    stored(store, simple("another", from_number="+14155550124", start_timestamp=START + 9))
    assert ask(client)["metadata"] == {
        "calls": "2",
        "is_known": "1",
        "last_call_id": "call_2",
        "last_agent_id": "agent_2",
        "last_agent_name": "Sales",
        "last_outcome": "agent_hangup",
        "last_successful": "1",
        "last_sentiment": "Positive",
        "last_summary": "Fine.",
        "name": "Ada",
        "open_complaint": "0",
        "callhouse_rule": "r",
    }


def test_history_is_not_that_of_another_account(serve, store):
    client = serve('[[inbound.rule]]\nname = "r"\nmetadata = { calls = "{calls}" }\n')
    assert post(client, call(), key="key_acme").status_code == 204
    assert ask(client)["metadata"]["calls"] == "0"
    assert ask(client, key="key_acme")["metadata"]["calls"] == "1"


def test_callers_without_a_number_share_no_history(serve, store):
    client = serve(RULES)
    for number in ("anonymous", ""):
        stored(store, call(call_id=f"call {number}", from_number=number))
    assert ask(client, "anonymous") == ask(client, "") == {}


def test_question_is_stored_before_it_is_answered(serve, db):
    client = serve(RULES)
    ask(client)
    assert rows(db, "SELECT event, problem FROM observations") == [("call_inbound", None)]


@pytest.mark.parametrize("event", ["call_inbound", "chat_inbound"])
@pytest.mark.parametrize(
    "asked",
    [
        '{"call_id": "c", "chat_id": "c"}',
        '{"from_number": 5, "to_number": null, "agent_id": []}',
        '{"from_number": %s}' % ("1" * 5000),
        # Quarantined, or not completely in the tables.
        "null",
        json.dumps(dict.fromkeys(range(6000), 1)),
    ],
    ids=["empty", "types", "digits", "nothing", "keys"],
)
def test_odd_question_is_answered(serve, event, asked):
    client = serve('[[inbound.rule]]\nname = "all"\nmetadata = { calls = "{calls}" }\n')
    response = post(client, b'{"event": "%s", "%s": %s}' % (*[event.encode()] * 2, asked.encode()))
    assert response.json[event]["metadata"] == {"calls": "0", "callhouse_rule": "all"}


def test_history_may_have_comments(serve):
    client = serve("""
[[inbound.rule]]
name = "r"
metadata = { from = "{number}" }
history = '''
SELECT -- the caller's number, not :to_number or :other?
    :from_number AS number'''
""")
    assert ask(client)["metadata"]["from"] == CALLER


def test_slow_history_is_cut_and_the_answer_empty(serve, capsys):
    client = serve(SLOW + RULES)
    began = time.monotonic()
    assert ask(client) == {}
    # A loaded machine may take its time, but the query would take many seconds.
    assert time.monotonic() - began < 5
    assert INBOUND in client.get("/healthz").json["problems"]
    assert "callhouse_inbound_failures_total 1\n" in client.get("/metrics").text
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["error"] == "the query took longer than 200 ms"
    assert CALLER not in str(line)


def test_failing_history_gives_an_empty_answer(serve, store):
    client = serve(
        '[[inbound.rule]]\nname = "r"\nhistory = '
        '"SELECT * FROM nothing_like_this WHERE from_number = :from_number"\n'
    )
    assert ask(client) == {}
    assert INBOUND in client.get("/healthz").json["problems"]


def test_rules_answer_while_another_process_writes(serve, engine, database, store):
    stored(store, call())
    serve(RULES)
    rules = InboundRules(config.load({"CALLHOUSE_DATABASE_URL": url_of(database)}), store)
    with held(engine, database):
        found = rules.decide(InboundRequest("call_inbound", "default", CALLER), now_ms=NOW_MS)
    assert (found.rule, found.problem) == ("known", None)


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ("SELECT * FROM nothing_like_this", "inbound rule r"),
        ("SELECT 1 AS b", "has no column a"),
        ("SELECT 1 AS a; DELETE FROM calls", "inbound rule r"),
        ("WITH x AS (SELECT 1 AS a) DELETE FROM calls", "inbound rule r"),
    ],
)
def test_wrong_history_is_found_before_it_is_needed(serve, store, database, db, history, message):
    stored(store, call())
    serve(f'[[inbound.rule]]\nname = "r"\nhistory = "{history}"\nmetadata = {{ a = "{{a}}" }}\n')
    settings = config.load({"CALLHOUSE_DATABASE_URL": url_of(database)})
    with pytest.raises(SettingsError, match=message):
        check_rules(settings)
    assert rows(db, "SELECT count(*) FROM calls") == [(1,)]


@pytest.fixture
def invoke(database, monkeypatch, tmp_path):
    (tmp_path / "callhouse.toml").write_text(RULES)
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    return lambda *args: CliRunner().invoke(main, ["inbound", "test", *args])


def test_command_shows_the_answer_and_why(invoke, store):
    stored(store, call())
    tag(store)
    done = invoke(CALLER, "--json")
    assert json.loads(done.output)["answer"]["call_inbound"]["override_agent_id"] == "agent_senior"
    result = invoke("+4930123456", "--chat", "--at", "2026-11-27 22:15:00")
    assert "another event" in result.output
    assert "no history" in result.output
    assert "Answered by night in " in result.output
    assert '"override_agent_id": "agent_night"' in result.output
    assert "Answered by no rule" in invoke("+4930123456", "--at", "2026-11-27 12:00:00").output


def test_command_fails_without_rules_or_with_wrong_ones(invoke, tmp_path):
    (tmp_path / "callhouse.toml").write_text(SLOW)
    done = invoke(CALLER)
    assert (done.exit_code, "inbound rule slow" in done.output) == (2, True)
    (tmp_path / "callhouse.toml").write_text(RULES)
    done = invoke(CALLER, "--account", "acme")
    assert (done.exit_code, "there is no account acme" in done.output) == (2, True)
    (tmp_path / "callhouse.toml").write_text("")
    assert invoke(CALLER).exit_code == 2


def test_rules_of_the_guide_run(serve, store):
    guide = (ROOT / "docs/how-to/inbound.md").read_text(encoding="utf-8")
    client = serve("".join(re.findall(r"^```toml\n(.*?)^```", guide, re.S | re.M)))
    stored(store, call())
    assert ask(client)["dynamic_variables"] == {"customer_name": "Ada"}
    campaign = simple("out", to_number="+14155550155", from_number="", metadata={"campaign": "x"})
    stored(store, campaign)
    assert ask(client, "+14155550155")["dynamic_variables"] == {"campaign": "x"}
