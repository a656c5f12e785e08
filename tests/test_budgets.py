"""The table of budgets in the docs has the numbers of the code, and tests that are there."""

import ast
import importlib
import re
from functools import reduce
from typing import Any

import pytest

from receiver.config import SETTINGS
from tests.support import ROOT

UNITS = {"": 1, "s": 1, "ms": 1, "MB": 1_000_000, "KiB": 1024, "MiB": 1024 * 1024}
# What the constant counts in, where the table has a unit that people know.
COUNTED_IN_MIB = {"tests.browse.access.test_attacks.MAX_RSS_MB"}


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "reference" / "limits.md").read_text(encoding="utf-8")
    _, _, section = text.partition("## Budgets\n")
    lines = section.partition("\n## ")[0].splitlines()
    table = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return table[1:]


def of_gunicorn(name: str) -> Any:
    """A constant of the configuration, which cannot be imported without settings."""
    found = {}
    for node in ast.parse((ROOT / "gunicorn.conf.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            for target in node.targets:
                if isinstance(target, ast.Tuple):
                    found |= {t.id: v for t, v in zip(target.elts, value, strict=True)}
                else:
                    found[target.id] = value
    return found[name]


def constant(path: str) -> Any:
    if path.startswith("gunicorn.conf."):
        return of_gunicorn(path.removeprefix("gunicorn.conf."))
    if path.startswith("receiver.config.SETTINGS."):
        name = path.rpartition(".")[2]
        return int(next(setting.default for setting in SETTINGS if setting.name == name))
    parts = path.split(".")
    for split in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:split]))
        except ModuleNotFoundError:
            continue
        return reduce(part_of, parts[split:], module)
    raise AssertionError(path)


def part_of(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value[name]
    return value[int(name)] if name.isdigit() else getattr(value, name)


@pytest.mark.parametrize("row", rows(), ids=lambda row: " ".join(row[:2]))
def test_each_budget_is_the_number_of_the_code(row):
    number, _, unit = row[2].partition(" ")
    name = row[3].strip("`")
    value = constant(name) * (UNITS["MiB"] if name in COUNTED_IN_MIB else 1)
    assert float(number.replace(",", "")) * UNITS[unit] == value, row


@pytest.mark.parametrize("row", rows(), ids=lambda row: " ".join(row[:2]))
def test_each_budget_names_a_test_that_is_there(row):
    if row[4] == "no test":
        return
    path, _, name = row[4].strip("`").partition("::")
    source = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", source, re.MULTILINE), row


def test_every_entrance_has_a_budget():
    """And at most two bounds have no test."""
    assert sum(row[4] == "no test" for row in rows()) <= 2
    listed = " ".join(row[0] for row in rows())
    for entrance in (
        *("webhook", "/healthz", "/metrics", "home", "call", "chat", "calls", "dashboards"),
        *("tables", "SQL", "CSV", "MCP", "login", "API", "send", "export"),
    ):
        assert entrance in listed, entrance
