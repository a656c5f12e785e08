"""`python -m benchmarks.stages`: the processor time of one webhook, stage by stage.

It calls the app in its own process, without a server, with pairs of call_ended and call_analyzed.
`--against DIR` measures the code of another folder as well, in turn, in processes of their own.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import KEY
from benchmarks.bodies import KINDS, pair
from receiver import config
from receiver.store import connection as connection_module
from receiver.store import migrate
from receiver.store.connection import Connection
from receiver.store.store import Machine
from receiver.webhook import app as app_module
from receiver.webhook.signature import sign

ROOT = Path(__file__).parent.parent
STAGES = {
    "signature": "verify the signature",
    "receive": "parse, rank, compress",
    "add": "store: all of it",
    "locked": "store: write lock held",
    "commit": "store: of this, COMMIT",
    "rest": "HTTP, counters, log",
    "request": "whole request",
}
_PAIRS = {"four minutes": 150, "30 seconds": 400, "unanswered": 600}
# Pairs that warm up caches and prepared statements.
_WARM = 20

spent: dict[str, float] = defaultdict(float)


def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """`call`, whose processor time is added to a stage."""

    def measured(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time_ns()
        try:
            return call(*args, **kwargs)
        finally:
            spent[name] += time.process_time_ns() - began

    return measured


class TimedConnection(Connection):
    """A connection that measures how long it has the write lock."""

    def execute(self, statement: str, *parameters: Any) -> Any:
        if statement == "COMMIT":
            commit = timed("commit", super().execute)(statement)
            spent["locked"] += time.process_time_ns() - self.locked_at
            return commit
        found = super().execute(statement, *parameters)
        if statement == "BEGIN IMMEDIATE":
            self.locked_at = time.process_time_ns()
        return found


class TimedMachine(Machine):
    """A machine whose connections are timed."""

    def connect(self, path: Path) -> Connection:
        plain, connection_module.Connection = connection_module.Connection, TimedConnection
        try:
            return super().connect(path)
        finally:
            connection_module.Connection = plain


def measure(kind: str, folder: Path) -> dict[str, float]:
    """Microseconds of each stage per event: the mean of the medians of both events."""
    url = f"sqlite:///{folder / 'retell.db'}"
    settings = config.load({"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url})
    migrate(folder / "retell.db", timezone="UTC")
    app_module.authenticate = timed("signature", app_module.authenticate)
    app_module.receive = timed("receive", app_module.receive)
    app = app_module.create_app(settings)
    store = app.extensions["callhouse"]["store"]
    store._machine = TimedMachine()
    store.add = timed("add", store.add)
    events: list[list[dict[str, float]]] = [[], []]
    for number in range(_PAIRS[kind] + _WARM):
        for event, body in enumerate(pair(kind, number)):
            spent.clear()
            post(app, body)
            spent["rest"] = spent["request"] - spent["signature"] - spent["receive"] - spent["add"]
            if number >= _WARM:
                events[event].append(dict(spent))
    return {
        stage: statistics.mean(statistics.median(e[stage] for e in each) for each in events) / 1000
        for stage in STAGES
    }


def post(app: Any, body: bytes) -> None:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/webhook",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_X_RETELL_SIGNATURE": sign(body, key=KEY, now_ms=time.time_ns() // 1_000_000),
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    answered: list[str] = []
    call = timed("request", lambda: b"".join(app(environ, lambda s, *_: answered.append(s))))
    call()
    if not answered[0].startswith("204"):
        sys.exit(f"the app answered {answered[0]}")


def run(root: Path, kind: str) -> dict[str, float]:
    """Measure the code of a folder in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--one", kind]
    environ = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, env=environ, cwd=root, stdout=-1, stderr=-3, check=True)
    return dict(json.loads(done.stdout))


def show(kind: str, roots: list[Path], runs: dict[Path, list[dict[str, float]]]) -> None:
    table = Table(title=f"{kind}, microseconds of processor time per event")
    table.add_column("stage")
    for root in roots:
        table.add_column(root.name, justify="right")
    for stage, name in STAGES.items():
        median = (f"{statistics.median(r[stage] for r in runs[root]):,.0f}" for root in roots)
        table.add_row(name, *median)
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", choices=list(KINDS), help="measure one kind once, print JSON")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS)[::-1], choices=list(KINDS))
    parser.add_argument("--against", type=Path, help="a folder with another version of the code")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.one:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(options.one, Path(folder))))
        return
    roots = [root for root in (options.against, ROOT) if root]
    for kind in options.kinds:
        runs: dict[Path, list[dict[str, float]]] = {root: [] for root in roots}
        for _ in range(options.rounds):
            for root in roots:
                runs[root].append(run(root, kind))
        show(kind, roots, runs)


if __name__ == "__main__":
    main()
