"""The table [alerts] of callhouse.toml: rules that are changed and added, budgets, mistakes."""

import pytest

from receiver.jobs.alert_rules import Budget, DigestSettings, parse_alerts, shipped_rules

MINE = {"name": "mine", "sql": "SELECT 1 AS key"}


def test_shipped_rules_are_changed_by_name():
    changed = {"name": "success", "severity": "critical", "parameters": {"least_count": 99}}
    found = parse_alerts({"rule": [changed, {"name": "cost", "on": False}, MINE]})
    before = {rule.name for rule in shipped_rules()}
    assert {rule.name for rule in found.rules} == before - {"cost"} | {"mine"}
    rule, [was] = found.rule("success"), [r for r in shipped_rules() if r.name == "success"]
    assert (rule.severity, rule.sql) == ("critical", was.sql)
    assert rule.parameters == {**was.parameters, "least_count": 99}


def test_hidden_rule_can_be_off():
    rules = [{"name": "silence", "severity": "warning"}, {"name": "cost", "on": False}]
    found = parse_alerts({"rule": [*rules, MINE | {"hides": ["cost"]}]})
    assert "cost" in found.rule("silence").hides
    assert found.rule("mine").hides == ("cost",)
    assert found.rule("cost") is None


def test_budget_is_of_one_subject():
    found = parse_alerts(
        {
            "budget": [
                {"name": "all", "dollars": 5},
                {"name": "acme", "dollars": 0.5, "metadata": {"client": "Acme"}},
                {"name": "one", "dollars": 1, "agent": "agent_1"},
            ]
        }
    )
    assert found.budgets == (
        Budget("all", 5),
        Budget("acme", 0.5, "metadata.client", "Acme"),
        Budget("one", 1, "agent", "agent_1"),
    )


def test_digest_is_a_word_or_tables():
    one = parse_alerts({"digest": "weekly", "digest_hour": 7, "notify": ["json://a"]})
    assert one.digests == (DigestSettings(every="weekly", hour=7, notify=("json://a",)),)
    several = [
        {"name": "owner", "role": "owner", "every": "weekly", "account": "acme"},
        {"name": "two", "hour": 6, "agents": ["a", "b"], "notify": ["json://b"]},
        {"name": "acme", "metadata": {"client": "Acme"}},
    ]
    assert parse_alerts({"digest": several, "notify": ["json://a"]}).digests == (
        DigestSettings("owner", "owner", "weekly", 8, ("json://a",), "account", ("acme",)),
        DigestSettings("two", None, "daily", 6, ("json://b",), "agent", ("a", "b")),
        DigestSettings("acme", None, "daily", 8, ("json://a",), "metadata.client", ("Acme",)),
    )


@pytest.mark.parametrize(
    ("alerts", "message"),
    [
        ({"notfy": []}, "did you mean notify"),
        ({"notify": "slack://a"}, "list of URLs"),
        ({"notify": ["secret"]}, "list of URLs"),
        ({"pages": "secret"}, "must be a URL"),
        ({"rule": {}}, "two brackets"),
        ({"rule": [{"name": "a b"}]}, "needs a name"),
        ({"rule": [{"name": "mine"}]}, "needs sql"),
        ({"rule": [MINE | {"sql": "DELETE FROM calls"}]}, "needs sql, a SELECT"),
        ({"rule": [MINE, MINE]}, "two rules"),
        ({"rule": [MINE | {"interval": 5}]}, "interval"),
        ({"rule": [MINE | {"severity": "bad"}]}, "severity"),
        ({"rule": [MINE | {"compare": "x"}]}, "compare"),
        ({"rule": [MINE | {"better": 2}]}, "better"),
        ({"rule": [MINE | {"unit": "x"}]}, "unit"),
        ({"rule": [MINE | {"hides": ["nobody"]}]}, "names a rule"),
        ({"rule": [MINE | {"parameters": {"a": "x"}}]}, "numbers with names"),
        ({"rule": [{"name": "success", "sql": "SELECT 1"}]}, "no setting sql"),
        ({"rule": [{"name": "success", "parameters": {"lest_count": 1}}]}, "least_count"),
        ({"rule": [{"name": "health", "parameters": {"a": 1}}]}, "no parameters"),
        ({"budget": [{"name": "a"}]}, "dollars"),
        ({"budget": [{"name": "a", "dollars": 1, "agent": "x", "account": "y"}]}, "one of"),
        ({"budget": [{"name": "a", "dollars": 1, "metadata": "x"}]}, "client"),
        ({"budget": [{"name": "a", "dollars": 1}] * 2}, "two budgets of"),
        ({"digest": "hourly"}, "daily"),
        ({"digest": {"name": "a"}}, "two brackets"),
        ({"digest": [{"name": "a", "role": "boss"}]}, "role of the digest a"),
        ({"digest": [{"name": "a", "every": "secret"}]}, "every of the digest a"),
        ({"digest": [{"name": "a", "hour": 24}]}, "hour of the digest a"),
        ({"digest": [{"name": "a", "agents": "secret"}]}, "a list of ids"),
        ({"digest": [{"name": "a", "agents": []}]}, "a list of ids"),
        ({"digest": [{"name": "a", "agents": ["x"], "account": "y"}]}, "one of"),
        ({"digest": [{"name": "a", "role": "operator", "account": "y"}]}, "cannot be limited"),
        ({"digest": [{"name": "a", "notify": ["secret"]}]}, "notify of the digest a"),
    ],
)
def test_mistakes_are_named_without_values(alerts, message):
    with pytest.raises(ValueError, match=message) as raised:
        parse_alerts(alerts)
    assert "secret" not in str(raised.value)
