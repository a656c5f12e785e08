"""Helpers of tests of exports."""

import json
from contextlib import closing
from pathlib import Path

from click.testing import CliRunner

from receiver import config
from receiver.addresses import Location
from receiver.cli import main
from receiver.store import Store, migrate, receive
from tests.support.days import day
from tests.support.engines import url_of

DAY_MS = 1_778_544_000_000  # 2026-05-12
CALL = {"call_id": "c", "from_number": "+14155550100", "start_timestamp": DAY_MS}


def silent(_done: int, _of: int | None = None) -> None:
    """A progress function that does nothing."""


def filled(path: Path) -> Path:
    """Make a file with the sandbox's day."""
    migrate(path, timezone="UTC")
    with closing(Store(path)) as store:
        for sent in day(1, day_start_ms=DAY_MS, calls=60):
            add(store, sent.body, sent.at_ms)
    return path


def export_of(where: Location, monkeypatch):
    """`callhouse export` on a database."""
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(where))
    return lambda *args: CliRunner().invoke(main, ["export", *map(str, args)])


def settings_of(where: Location) -> config.Settings:
    """The settings of who exports a database."""
    return config.load({"CALLHOUSE_DATABASE_URL": url_of(where)})


def add(store, body, at_ms):
    store.add(receive(body, source="webhook", observed_at=at_ms, received_at=at_ms))


def stored(store, call, at_ms=DAY_MS, event="call_analyzed"):
    add(store, json.dumps({"event": event, "call": call}).encode(), at_ms)


def lines(result):
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def one(result):
    [row] = lines(result)
    return row
