"""`python -m benchmarks.capacity`: what a month of calls asks of a machine, from what was measured.

The figures are those of docs/benchmarks.md; change them to your own machine's and prices.
"""

import math
from collections.abc import Iterator

# Of a four-minute call: an event of call_started, then call_ended and call_analyzed of 86 KB each.
EVENTS = 3
CPU_SECONDS = (1.83 + 5.73 + 5.73) / 1000
DISK_BYTES = 66_000
RECEIVED_BYTES = 173_000
# Of a worker's time for an event, in percent, what the write lock is held for: values, rows,
# inserts, commit. One process holds it at a time.
LOCKED_SHARE = 0.45

# A month has 22 working days, a day's busiest hour 15 % of its calls, that hour's busiest minute
# twice its share.
DAYS = 22
BUSIEST_SECOND = 0.15 * 2 / 3600

# US dollars a month: a processor core, a gigabyte of SSD, a gigabyte of a backup kept elsewhere.
CORE, SSD, BACKUP = 25.0, 0.10, 0.02
KEPT_MONTHS = 12
VOLUMES = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)


def main() -> None:
    print("\n".join(rows()))


def rows() -> Iterator[str]:
    """The table of docs/capacity.md."""
    yield (
        "| calls a month | calls/s in the busiest minute | cores then | write lock held | "
        "received a month | on disk after a year | dollars a month |"
    )
    yield "|---|---|---|---|---|---|---|"
    for calls in VOLUMES:
        per_second = calls / DAYS * BUSIEST_SECOND
        cores = per_second * CPU_SECONDS
        kept = calls * KEPT_MONTHS * DISK_BYTES / 1e9
        # One core in two stays free for whoever browses.
        bought = max(1, math.ceil(2 * cores))
        dollars = bought * CORE + kept * (SSD + BACKUP)
        cells = (
            f"{calls:,}",
            f"{per_second:.2g}" if per_second < 10 else f"{per_second:,.0f}",
            f"{cores:.2g}",
            f"{100 * cores * LOCKED_SHARE:.2g} %" if cores * LOCKED_SHARE < 1 else "more than all",
            gigabytes(calls * RECEIVED_BYTES / 1e9),
            gigabytes(kept),
            f"{dollars:,.0f}",
        )
        yield f"| {' | '.join(cells)} |"


def gigabytes(value: float) -> str:
    return f"{value:,.0f} GB" if value < 1000 else f"{value / 1000:,.0f} TB"


if __name__ == "__main__":
    main()
