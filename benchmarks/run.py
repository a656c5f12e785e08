"""`make bench`: callhouse against an endpoint that stores nothing and the ten-minute version.

wrk (from Debian's packages) posts prepared, signed, distinct bodies with 32 clients from one
thread. It is written in C and sends prepared bytes, so that it does not limit the result.
"""

import argparse
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import KEY
from benchmarks.bodies import KINDS, pair
from receiver.webhook.signature import sign
from tests.support.postgres import Cluster, programs

CLIENTS = 32
POSTGRES = "callhouse on PostgreSQL"
SERVERS = {
    "only reads and checks the HMAC": "benchmarks.servers:hmac_only()",
    "callhouse": "receiver.webhook.app:create_app()",
    "ten-minute version": "benchmarks.servers:ten_minutes()",
    # Where Debian's package is installed; the server runs on the same cores.
    **({POSTGRES: "receiver.webhook.app:create_app()"} if programs() else {}),
}
ROOT = Path(__file__).parent.parent
# Prepared pairs per second of a run: more than the fastest storing server accepts.
PAIRS_PER_SECOND = {"four minutes": 450, "30 seconds": 1000, "unanswered": 1500}


@dataclass
class Run:
    """The result of one run."""

    events_per_second: float
    p50_ms: float
    p99_ms: float
    cpu_seconds_per_1000: float
    database_cpu_seconds_per_1000: float
    memory_mb: float
    disk_ratio: float
    errors: int
    exhausted: bool


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=6, help="length of one run")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved runs of each server")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds:
            measure(kind, options.seconds, options.rounds, Path(folder))


def measure(kind: str, seconds: int, rounds: int, folder: Path) -> None:
    """Run every server on one kind of body and print a table."""
    requests, sizes = prepare(kind, seconds, folder)
    runs: dict[str, list[Run]] = {name: [] for name in SERVERS}
    with Progress(transient=True) as progress:
        task = progress.add_task(kind, total=rounds * len(SERVERS))
        for _ in range(rounds):
            for name, target in SERVERS.items():
                with database(folder / "data", on_postgres=name == POSTGRES) as where:
                    runs[name].append(run(target, requests, sizes, seconds, where))
                progress.advance(task)
    show(kind, runs, sum(sizes) / len(sizes))


def prepare(kind: str, seconds: int, folder: Path) -> tuple[Path, list[int]]:
    """Write signed bodies to a file for wrk; return it and their lengths, in order."""
    path, sizes = folder / "requests", []
    now_ms = time.time_ns() // 1_000_000
    with path.open("wb") as file:
        for number in range(PAIRS_PER_SECOND[kind] * seconds):
            for body in pair(kind, number):
                signature = sign(body, key=KEY, now_ms=now_ms)
                file.write(f"{signature} {len(body)}\n".encode() + body)
                sizes.append(len(body))
    return path, sizes


@dataclass
class Database:
    """The database of a server: its folder, address, files and processes."""

    folder: Path
    url: str
    files: Path
    pid: int | None = None

    def bytes(self) -> int:
        return sum(f.stat().st_size for f in self.files.rglob("*") if f.is_file())


@contextmanager
def database(folder: Path, *, on_postgres: bool) -> Iterator[Database]:
    """A new one, for one run."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if not on_postgres:
        yield Database(folder, f"sqlite:///{folder / 'retell.db'}", folder)
        return
    # The server's own user must have access to the folder.
    folder.parent.chmod(0o755)
    cluster = Cluster(folder, durable=True)
    cluster.start()
    try:
        # Without its log, of which it keeps a gigabyte in any case.
        files = folder / "data" / "base"
        yield Database(folder, cluster.url("postgres").url, files, cluster.process.pid)
    finally:
        cluster.stop()


def run(target: str, requests: Path, sizes: list[int], seconds: int, where: Database) -> Run:
    """Start a server on a fresh database, load it, measure it, stop it."""
    with server(target, where) as (process, address):
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "--timeout", "30s"]
        command += ["-s", str(ROOT / "benchmarks/load.lua"), f"http://{address}"]
        command += ["--", str(requests)]
        # Starting needs processor time and disk too, but only once.
        started, _ = usage(process.pid)
        kept_at_start, _ = usage(where.pid)
        empty = where.bytes() if where.pid else 0
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        cpu, memory = usage(process.pid)
        kept, kept_memory = usage(where.pid)
    found = {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", output.split("RESULT", 1)[1])}
    done = found["requests"]
    return Run(
        events_per_second=done / found["duration_us"] * 1e6,
        p50_ms=found["p50_us"] / 1000,
        p99_ms=found["p99_us"] / 1000,
        cpu_seconds_per_1000=(cpu - started) / done * 1000,
        database_cpu_seconds_per_1000=(kept - kept_at_start) / done * 1000,
        memory_mb=memory + kept_memory,
        disk_ratio=(where.bytes() - empty) / sum(sizes[:done]),
        errors=found["errors"],
        exhausted=done > len(sizes),
    )


@contextmanager
def server(target: str, where: Database) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A gunicorn with callhouse's own configuration, serving `target`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    environ = os.environ | {
        "PYTHONPATH": str(ROOT),
        "RETELL_API_KEY": KEY,
        "CALLHOUSE_DATABASE_URL": where.url,
        "CALLHOUSE_BIND": address,
        "CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS": "86400",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), target],
        env=environ,
        cwd=where.folder,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    try:
        while True:
            try:
                # Once for each worker, so that all of them are up.
                for _ in range(8):
                    httpx.get(f"http://{address}/")
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield process, address
    finally:
        process.terminate()
        process.wait()


def usage(pid: int | None) -> tuple[float, float]:
    """CPU seconds used by all processes of a session, and their peak memory together in MB.

    A child of PostgreSQL's begins a session of its own.
    """
    cpu, memory = 0.0, 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(") ", 1)[1].split()
            if pid is None or pid not in (int(fields[1]), int(fields[3])):
                continue
            cpu += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            status = (stat.parent / "status").read_text()
            memory += int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
        except (OSError, IndexError):
            continue
    return cpu, memory


def show(kind: str, runs: dict[str, list[Run]], body_bytes: float) -> None:
    """A line a server: medians, and the ratio of callhouse's rate to this one's."""
    table = Table(title=f"{kind}: {body_bytes / 1000:,.1f} KB a body, {CLIENTS} clients")
    table.add_column("server")
    columns = (
        "events/s",
        "callhouse ÷ it",
        "p50 ms",
        "p99 ms",
        "p99 ÷ p50",
        "CPU s/1,000",
        "the database's",
    )
    for column in (*columns, "peak MB", "disk ÷ received", "errors"):
        table.add_column(column, justify="right")
    ours = [r.events_per_second for r in runs["callhouse"]]
    for name, all_runs in runs.items():
        theirs = [r.events_per_second for r in all_runs]
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        table.add_row(
            name + (" (bodies ran out)" if any(r.exhausted for r in all_runs) else ""),
            f"{statistics.median(theirs):,.0f}",
            f"{ratio:.2f}",
            *(f"{median(all_runs, f):,.1f}" for f in ("p50_ms", "p99_ms")),
            f"{statistics.median(r.p99_ms / r.p50_ms for r in all_runs):.1f}",
            f"{median(all_runs, 'cpu_seconds_per_1000'):.2f}",
            f"{median(all_runs, 'database_cpu_seconds_per_1000'):.2f}",
            f"{median(all_runs, 'memory_mb'):,.0f}",
            f"{median(all_runs, 'disk_ratio'):.2f}",
            str(sum(r.errors for r in all_runs)),
        )
    Console(width=160).print(table)


def median(runs: list[Run], field: str) -> float:
    return statistics.median(getattr(r, field) for r in runs)


if __name__ == "__main__":
    main()
