"""`python -m benchmarks.inbound`: how long Retell waits for an answer by rules, beside full load.

wrk posts events of calls with 32 clients. Meanwhile one client asks about inbound calls, which a
rule answers from the caller's history, and in turn about inbound chats, which no rule matches.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
from itertools import cycle
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from benchmarks import KEY
from benchmarks.bodies import pair
from benchmarks.run import CLIENTS, ROOT, database, prepare, server
from receiver.webhook.signature import sign

KIND = "30 seconds"
RULE = """
[[inbound.rule]]
name = "known"
events = ["call_inbound"]
match = { is_known = 1 }
dynamic_variables = { name = "{name}", last_summary = "{last_summary}" }
"""
CASES = {"by a rule": "call_inbound", "no rule matches": "chat_inbound"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests, _ = prepare(KIND, options.seconds, folder)
        caller = json.loads(pair(KIND, 0)[-1])["call"]["from_number"]
        with database(folder / "data", on_postgres=False) as where:
            (where.folder / "callhouse.toml").write_text(RULE)
            with server("receiver.webhook.app:create_app()", where) as (_, address):
                load = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{options.seconds}s", "-s"]
                load += [
                    str(ROOT / "benchmarks/load.lua"),
                    f"http://{address}",
                    "--",
                    str(requests),
                ]
                wrk = subprocess.Popen(load, stdout=subprocess.DEVNULL)
                try:
                    show(ask(address, caller, wrk))
                finally:
                    wrk.wait()
        shutil.rmtree(folder / "data")


def ask(address: str, caller: str, wrk: "subprocess.Popen[bytes]") -> dict[str, list[float]]:
    """Milliseconds of each answer, in turn, until the load ends."""
    found: dict[str, list[float]] = {case: [] for case in CASES}
    # The first events are stored, and the connections of the load are open.
    time.sleep(2)
    with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
        for case, event in cycle(CASES.items()):
            if wrk.poll() is not None:
                return found
            asked = {"from_number": caller, "to_number": "+14155550199", "agent_id": "agent_1"}
            body = json.dumps({"event": event, event: asked, "n": len(found[case])}).encode()
            headers = {
                "X-Retell-Signature": sign(body, key=KEY, now_ms=time.time_ns() // 1_000_000)
            }
            began = time.perf_counter()
            answer = client.post("/webhook", content=body, headers=headers)
            found[case].append((time.perf_counter() - began) * 1000)
            assert bool(answer.json()[event]) == (event == "call_inbound"), answer.text
    raise AssertionError


def show(found: dict[str, list[float]]) -> None:
    """A line a case."""
    table = Table(title=f"Inbound answers beside {CLIENTS} clients")
    for column in ("answered", "answers", "p50 ms", "p99 ms", "longest ms"):
        table.add_column(column, justify="left" if column == "answered" else "right")
    for case, times in found.items():
        p50, p99 = statistics.median(times), statistics.quantiles(times, n=100)[-1]
        figures = (f"{p50:.1f}", f"{p99:.1f}", f"{max(times):.1f}")
        table.add_row(case, f"{len(times):,}", *figures)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
