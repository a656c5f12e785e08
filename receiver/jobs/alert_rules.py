"""The table [alerts] of callhouse.toml, parsed strictly, and the shipped rules.

In: alert_rules.toml, and the table [alerts]. Out: AlertSettings. A rule of callhouse.toml with the
name of a shipped one changes it.
"""

import importlib.resources
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any

from receiver.config_checks import named_tables, require_int, require_known, table, url

SEVERITIES = ("info", "warning", "critical")
# Columns of the rows of a comparison, besides `key` and `name`.
COMPARED = MappingProxyType(
    {
        "share": ("part", "count"),
        "mean": ("total", "squares", "count"),
        "days": ("value", "count"),
    }
)
UNITS = ("share", "ms", "cents", "number")
INTERVALS = ("daily", "weekly")
ROLES = ("owner", "support", "operator")
# In percent of a budget.
BUDGET_LEVELS = MappingProxyType({50: "info", 80: "warning", 100: "critical"})
_MAX_SECONDS = 366 * 86_400
_FIELDS = (
    "name", "title", "sql", "severity", "interval", "description", "within", "hides",
    "parameters", "compare", "better", "unit", "text",
)  # fmt: skip
_TUNED = ("on", "severity", "interval", "title", "parameters")
_SETTINGS = ("notify", "digest", "digest_hour", "pages", "rule", "budget")
_DIGEST = ("name", "role", "every", "hour", "notify", "account", "agents", "metadata")
_DEFAULTS = MappingProxyType(
    {"least_count": 30.0, "least_days": 5.0, "deviations": 4.0, "least_change": 0.1}
)


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: `sql`, or `source`, the name of a function of jobs/alert_findings.py.

    `interval` is in seconds. While it has an open alert, alerts of the rules that it `hides` send
    no messages. `within` is a text: how soon a fault is found.
    """

    name: str
    title: str
    severity: str = "warning"
    interval: int = 3600
    description: str = ""
    within: str = ""
    sql: str = ""
    source: str = ""
    compare: str = ""
    better: int = -1
    unit: str = "share"
    text: str = "{name}: {now} of {count} in the last day, usually {past}"
    hides: tuple[str, ...] = ()
    parameters: Mapping[str, float] = field(default_factory=dict)


@cache
def shipped_rules() -> tuple[Rule, ...]:
    """The shipped rules."""
    path = importlib.resources.files("receiver.jobs") / "alert_rules.toml"
    found = tomllib.loads(path.read_text(encoding="utf-8"))["rule"]
    return tuple(Rule(**value | {"hides": tuple(value.get("hides", ()))}) for value in found)


@dataclass(frozen=True, slots=True)
class Budget:
    """The budget of a month for all calls and chats, or those of an account, an agent or a value of
    the metadata. `grouping` is as for statements, `key` the value."""

    name: str
    dollars: float
    grouping: str | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class DigestSettings:
    """A digest, its schedule, and its URLs, which are secrets. Without a role it is for everybody.

    `grouping` is as for statements; its calls and chats are those of the groups `keys`.
    """

    name: str = ""
    role: str | None = None
    every: str = "daily"
    hour: int = 8
    notify: tuple[str, ...] = field(default=(), repr=False)
    grouping: str | None = None
    keys: tuple[str, ...] = ("",)

    @property
    def days(self) -> int:
        """The number of days of one digest."""
        return 7 if self.every == "weekly" else 1


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """The table [alerts]. `notify` are URLs of apprise: secrets."""

    rules: tuple[Rule, ...] = field(default_factory=shipped_rules)
    budgets: tuple[Budget, ...] = ()
    notify: tuple[str, ...] = field(default=(), repr=False)
    digests: tuple[DigestSettings, ...] = ()
    pages: str | None = None

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of alerts and of every digest."""
        return (*self.notify, *(url for digest in self.digests for url in digest.notify))

    def rule(self, name: str) -> Rule | None:
        """The rule with a name."""
        return next((rule for rule in self.rules if rule.name == name), None)


def parse_alerts(value: Any) -> AlertSettings:
    """The table [alerts]. Raises ValueError with a message for a person."""
    require_known(table(value, "alerts"), _SETTINGS, "[alerts]")
    notify = _urls(value.get("notify", []), "alerts.notify")
    require_int(value.get("digest_hour", 8), 0, 23, "alerts.digest_hour")
    default = DigestSettings(hour=value.get("digest_hour", 8), notify=notify)
    return AlertSettings(
        rules=_rules(value.get("rule", [])),
        budgets=_budgets(value.get("budget", [])),
        notify=notify,
        digests=_digests(value.get("digest", []), default),
        pages=url(value["pages"], "alerts.pages") if "pages" in value else None,
    )


def _urls(value: Any, what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(_is_url(each) for each in value):
        raise ValueError(f"{what} must be a list of URLs, in apprise's format")
    return tuple(dict.fromkeys(value))


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and re.match(r"[A-Za-z0-9]+://.", value) is not None


def _rules(value: Any) -> tuple[Rule, ...]:
    found = {rule.name: rule for rule in shipped_rules()}
    for name, each in named_tables(value, "[[alerts.rule]]", "rules").items():
        rest = {key: part for key, part in each.items() if key != "name"}
        before = found.get(name)
        changed = _new(name, rest) if before is None else _tuned(before, rest)
        if changed is None:
            found.pop(name)
        else:
            found[name] = changed
    # Including disabled rules.
    known = {*found, *(rule.name for rule in shipped_rules())}
    for rule in found.values():
        if not known.issuperset(rule.hides):
            raise ValueError(f"hides of the rule {rule.name} names a rule that is not known")
    return tuple(found.values())


def _tuned(rule: Rule, value: dict[str, Any]) -> Rule | None:
    """A shipped rule with the changes of the file; None if it is disabled."""
    where = f"the rule {rule.name}"
    require_known(value, _TUNED, where)
    if not isinstance(value.get("on", True), bool):
        raise ValueError(f"on of {where} must be true or false")
    _check(value, where)
    known = rule.parameters
    require_known(value.get("parameters", {}), known, f"parameters of {where}") if known else None
    if value.get("parameters") and not known:
        raise ValueError(f"{where} has no parameters")
    changed: dict[str, Any] = {
        key: value[key] for key in ("severity", "interval", "title") if key in value
    }
    changed["parameters"] = {**known, **value.get("parameters", {})}
    return replace(rule, **changed) if value.get("on", True) else None


def _new(name: str, value: dict[str, Any]) -> Rule:
    where = f"the rule {name}"
    require_known(value, _FIELDS, where)
    _check(value, where)
    sql = value.get("sql")
    if not isinstance(sql, str) or not re.match(r"\s*(SELECT|WITH)\b", sql, re.I):
        raise ValueError(f"{where} needs sql, a SELECT")
    if value.get("compare", "") not in ("", *COMPARED):
        raise ValueError(f"compare of {where} must be one of {', '.join(COMPARED)}")
    if value.get("better", -1) not in (1, -1):
        raise ValueError(f"better of {where} must be 1 or -1")
    if value.get("unit", "share") not in UNITS:
        raise ValueError(f"unit of {where} must be one of {', '.join(UNITS)}")
    hides = value.get("hides", [])
    if not isinstance(hides, list) or not all(isinstance(each, str) for each in hides):
        raise ValueError(f"hides of {where} must be a list of names")
    defaults = _DEFAULTS if value.get("compare") else {}
    return Rule(
        **{
            "name": name,
            "title": name,
            **value,
            "hides": tuple(hides),
            "parameters": {**defaults, **value.get("parameters", {})},
        }
    )


def _check(value: dict[str, Any], where: str) -> None:
    """Check the settings that shipped and new rules have in common."""
    for key in ("title", "description", "within", "text"):
        if not isinstance(value.get(key, ""), str):
            raise ValueError(f"{key} of {where} must be text")
    if value.get("severity", "info") not in SEVERITIES:
        raise ValueError(f"severity of {where} must be one of {', '.join(SEVERITIES)}")
    require_int(value.get("interval", 60), 60, _MAX_SECONDS, f"interval of {where}, in seconds,")
    for key, number in table(value.get("parameters", {}), f"parameters of {where}").items():
        if not re.fullmatch(r"[a-z_][a-z0-9_]*", key) or not _is_number(number):
            raise ValueError(f"parameters of {where} must be numbers with names")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _budgets(value: Any) -> tuple[Budget, ...]:
    found = named_tables(value, "[[alerts.budget]]", "budgets")
    return tuple(_budget(name, each) for name, each in found.items())


def _budget(name: str, value: dict[str, Any]) -> Budget:
    require_known(value, ("name", "dollars", "account", "agent", "metadata"), "[[alerts.budget]]")
    where = f"the budget {name}"
    dollars: Any = value.get("dollars")
    if not _is_number(dollars) or dollars <= 0:
        raise ValueError(f"dollars of {where} must be a number above 0")
    grouping, (key,) = _subject(value, "agent", where)
    return Budget(name, dollars, grouping, key)


def _digests(value: Any, default: DigestSettings) -> tuple[DigestSettings, ...]:
    """`digest` is the schedule of a single digest, or the tables [[alerts.digest]]."""
    if isinstance(value, str):
        if value not in INTERVALS:
            raise ValueError('alerts.digest must be "daily" or "weekly"')
        return (replace(default, every=value),)
    found = named_tables(value, "[[alerts.digest]]", "digests")
    return tuple(_digest(name, each, default) for name, each in found.items())


def _digest(name: str, value: dict[str, Any], default: DigestSettings) -> DigestSettings:
    require_known(value, _DIGEST, "[[alerts.digest]]")
    where = f"the digest {name}"
    for key, known in (("role", ROLES), ("every", INTERVALS)):
        if value.get(key, known[0]) not in known:
            raise ValueError(f"{key} of {where} must be one of {', '.join(known)}")
    require_int(value.get("hour", 0), 0, 23, f"hour of {where}")
    grouping, keys = _subject(value, "agents", where)
    if grouping and value.get("role") == "operator":
        raise ValueError(f"{where} is for the operator: it cannot be limited to {grouping}")
    chosen: dict[str, Any] = {key: value[key] for key in ("role", "every", "hour") if key in value}
    if "notify" in value:
        chosen["notify"] = _urls(value["notify"], f"notify of {where}")
    return replace(default, name=name, grouping=grouping, keys=keys, **chosen)


def _subject(value: dict[str, Any], agents: str, where: str) -> tuple[str | None, tuple[str, ...]]:
    """The grouping and the groups that a table is limited to. `agents` is a list or `agent` one."""
    names = [key for key in ("account", agents, "metadata") if key in value]
    if len(names) > 1:
        raise ValueError(f"{where} is for one of account, {agents} and metadata")
    if not names:
        return None, ("",)
    kind: str = names[0]
    subject = value[kind]
    if kind == "metadata":
        if not isinstance(subject, dict) or len(subject) != 1:
            raise ValueError(f'metadata of {where} must be like {{ client = "Acme" }}')
        [(key, subject)] = subject.items()
        kind = f"metadata.{key}"
    keys = subject if kind == "agents" and isinstance(subject, list) else [subject]
    if (kind == "agents" and not isinstance(subject, list)) or not keys:
        raise ValueError(f"agents of {where} must be a list of ids")
    if not all(isinstance(each, str) and each for each in keys):
        raise ValueError(f"{kind} of {where} must be text")
    return "agent" if kind == "agents" else kind, tuple(dict.fromkeys(keys))
