"""A pytest plugin: private data of the run's calls must not be in any log line, error, metric or
exception.

It searches for telephone numbers, keys, access tokens and spoken words in every log line, error and
metric of this process, the output of commands, and the servers' logs.
"""

import json
import logging
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cache, wraps
from typing import Any

import pytest
from click.testing import CliRunner

import receiver.errors
import receiver.webhook.health
from tests.support import ROOT

# A number as the wire writes it; any key, those that are wrong on purpose too.
NUMBERS_AND_KEYS = re.compile(r"\+[1-9][0-9]{9,}|\bkey_(?!id\b)\w{4,}")
# Canaries that tests put into their own calls.
PLANTED = {"xylophonist", "token_c4n4ry", "canary-token"}
# Shorter words occur in messages too.
WORD = re.compile(r"[a-z]{9,}")
# These commands print stored data on purpose; help shows examples.
SPEAKING = {"show", "export", "--help"}

found: list[str] = []


def search(text: str, where: str) -> None:
    """Note every canary in a text."""
    small = text.lower()
    leaked = {canary for canary in canaries() if canary in small}
    # Hints show an example of a number.
    leaked |= {number for number in NUMBERS_AND_KEYS.findall(text) if number not in sources()}
    found.extend(f"{canary!r} in {where}" for canary in sorted(leaked))


def pytest_configure(config: pytest.Config) -> None:
    """Install the searches before any test module imports the code."""
    _listen(receiver.webhook.health, "log", lambda _, leaked: search(repr(leaked), "a log line"))
    for name in ("health", "prometheus"):
        _listen(
            receiver.webhook.health,
            name,
            lambda result, _: search(str(result), "/healthz, /metrics"),
        )
    _listen(
        receiver.errors.CallhouseError,
        "__init__",
        lambda _, leaked: search(repr(leaked), "an error's text"),
    )
    _listen(subprocess, "run", _search_command)
    _listen(CliRunner, "invoke", _search_command)
    logging.getLogger().addHandler(_Records())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search the servers' logs, and fail the run if anything was found anywhere."""
    for path in session.config._tmp_path_factory.getbasetemp().rglob("*.log"):
        search(path.read_text("utf-8", "replace"), path.name)
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["canaries"] = found


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the findings of a process that ran a part of the tests."""
    found.extend(getattr(node, "workeroutput", {}).get("canaries", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the findings."""
    if found:
        terminalreporter.section("said where it must never be said", red=True)
        for line in sorted(set(found)):
            terminalreporter.line(line)


class _Records(logging.Handler):
    """Every record of any logger."""

    def emit(self, record: logging.LogRecord) -> None:
        search(logging.Formatter().format(record), f"the log of {record.name}")


def _listen(owner: Any, name: str, hear: Callable[[Any, Any], None]) -> None:
    """Call `hear` with the result and the arguments of a function."""
    genuine = getattr(owner, name)

    @wraps(genuine)
    def heard(*args: Any, **named: Any) -> Any:
        result = genuine(*args, **named)
        hear(result, (*args, named))
        return result

    setattr(owner, name, heard)


def _search_command(result: Any, leaked: Any) -> None:
    command = str(leaked)
    if not any(f"'{name}'" in command for name in SPEAKING):
        printed = getattr(result, "stdout", None) or "", getattr(result, "stderr", None) or ""
        if "'receiver'" in command or isinstance(leaked[0], CliRunner):
            search(repr(printed), f"what {command[:80]} printed")


@cache
def canaries() -> set[str]:
    """Words and tokens of the payloads and of the sandbox's calls that are in no source file and in
    no agent's name."""
    from tests.support.days import day

    bodies = [path.read_bytes() for path in (ROOT / "tests/payloads").glob("*.json")]
    bodies += [delivery.body for delivery in day(1, day_start_ms=0, calls=40)]
    words, names = set[str](), sources()
    for body in bodies:
        try:
            leaked = json.loads(body)
        except ValueError:
            continue
        words |= set(_spoken(leaked))
        call = leaked.get("call") if isinstance(leaked, dict) else None
        names += str(call.get("agent_name")) if isinstance(call, dict) else ""
    # Looked for within words, too: StoreUnavailable says nothing that was available.
    known = names.lower()
    return PLANTED | {word for word in words if word not in known}


@cache
def sources() -> str:
    """The text of what is tested, but for the sandbox's conversations."""
    paths = [path for room in ("receiver", "schema") for path in (ROOT / room).rglob("*.py")]
    return "".join(p.read_text(encoding="utf-8") for p in paths if "sandbox" not in p.parts)


def _spoken(value: Any, name: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _spoken(item, key)
    elif isinstance(value, list):
        for item in value:
            yield from _spoken(item, name)
    elif isinstance(value, str) and name in ("transcript", "content"):
        yield from WORD.findall(value.lower())
    elif isinstance(value, str) and name == "access_token":
        yield value.lower()
