"""`python -m benchmarks.capacity`: the machines that a month of calls needs, computed from
measurements.

The figures are those of docs/explanation/benchmarks.md. Replace them by those of your machines and
by your prices.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

# A four-minute call: call_started, then call_ended and call_analyzed of 86 KB each.
RECEIVED_BYTES = 173_000


@dataclass(frozen=True)
class Measured:
    """What a call costs on an engine, in seconds of a processor and bytes of a disk."""

    name: str
    receiver_seconds: float
    database_seconds: float
    disk_bytes: int
    # A server has a standby and two receivers, so that one machine may fail.
    copies: int


SQLITE = Measured("SQLite", (2.13 + 8.59 + 8.59) / 1000, 0.0, 66_000, 1)
POSTGRES = Measured(
    "PostgreSQL", (6.39 + 13.57 + 13.57) / 1000, (2.39 + 7.73 + 7.73) / 1000, 119_000, 2
)

# The share of a worker's time for an event in which it has the write lock of a file, in percent:
# rows, inserts, commit. One process has it at a time.
LOCKED_SHARE = 0.45

# A month has 22 working days, a day's busiest hour 15 % of its calls, that hour's busiest minute
# twice its share.
DAYS = 22
BUSIEST_SECOND = 0.15 * 2 / 3600

# US dollars a month: a processor core, a gigabyte of SSD, a gigabyte of a backup kept elsewhere.
CORE, SSD, BACKUP = 25.0, 0.10, 0.02
KEPT_MONTHS = 12
# A receiver's machine has two cores. A server's disk can be as large as a volume of a cloud is.
CORES_OF_RECEIVER, DISK_OF_SERVER = 2, 16e12
VOLUMES = {
    10_000: SQLITE,
    100_000: SQLITE,
    1_000_000: SQLITE,
    10_000_000: POSTGRES,
    100_000_000: POSTGRES,
}


def main() -> None:
    print("\n".join(rows()))


def rows() -> Iterator[str]:
    """The table of docs/explanation/capacity.md."""
    yield (
        "| calls a month | calls/s in the busiest minute | database | its write lock held | "
        "receivers | the database's machines | received a month | on disk after a year | "
        "dollars a month |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for calls, engine in VOLUMES.items():
        per_second = calls / DAYS * BUSIEST_SECOND
        kept = calls * KEPT_MONTHS * engine.disk_bytes
        servers = math.ceil(kept / DISK_OF_SERVER)
        # Half of the cores stay free, for readers and for busier minutes.
        needed = 2 * per_second * engine.receiver_seconds
        machines = max(engine.copies, math.ceil(needed / CORES_OF_RECEIVER))
        held = per_second * SQLITE.receiver_seconds * LOCKED_SHARE
        cells = (
            f"{calls:,}",
            f"{per_second:.2g}" if per_second < 10 else f"{per_second:,.0f}",
            engine.name if servers == 1 or engine is SQLITE else f"{engine.name}, distributed",
            f"{100 * held:.2g} %" if engine is SQLITE else "none",
            f"{machines} of {CORES_OF_RECEIVER} cores",
            _machines(engine, servers, per_second),
            gigabytes(calls * RECEIVED_BYTES / 1e9),
            gigabytes(kept / 1e9),
            f"{_dollars(engine, machines, servers, per_second, kept):,.0f}",
        )
        yield f"| {' | '.join(cells)} |"


def _cores(engine: Measured, servers: int, per_second: float) -> int:
    """Cores of each server, in available sizes."""
    needed = 2 * per_second * engine.database_seconds / servers
    return max(2, 2 ** math.ceil(math.log2(max(needed, 1))))


def _machines(engine: Measured, servers: int, per_second: float) -> str:
    if engine is SQLITE:
        return "none"
    cores = _cores(engine, servers, per_second)
    return f"{servers} of {cores} cores, and a standby" + (" each" if servers > 1 else "")


def _dollars(
    engine: Measured, machines: int, servers: int, per_second: float, kept: float
) -> float:
    cores = machines * CORES_OF_RECEIVER
    if engine is not SQLITE:
        cores += engine.copies * servers * _cores(engine, servers, per_second)
    return cores * CORE + kept / 1e9 * (engine.copies * SSD + BACKUP)


def gigabytes(value: float) -> str:
    return f"{value:,.0f} GB" if value < 1000 else f"{value / 1000:,.0f} TB"


if __name__ == "__main__":
    main()
