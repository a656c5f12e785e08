"""Run histories of the simulated store, each from its own seed; exit with 1 if a promise breaks.

`python -m tests.simulation --seed S --histories 1` repeats the one that was printed.
"""

import argparse
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

TESTS = Path(__file__).parent.parent
CHUNK = 100
# Shown of one run; more would say the same again.
MOST_FAILURES = 10


def run(seeds: range) -> tuple[Counter[str], list[str]]:
    """What happened in the histories of these seeds, and what failed."""
    from tests.simulation import disk
    from tests.simulation.history import History

    assert disk.register(), "SQLite's library cannot be reached from Python"
    totals: Counter[str] = Counter()
    failures = []
    with tempfile.TemporaryDirectory(prefix="simulation") as folder:
        for seed in seeds:
            history = History(seed, Path(folder))
            try:
                history.run()
            except Exception:
                faults = "; ".join(history.report.faults)
                trace = traceback.format_exc(limit=-5)
                failures.append(f"seed {seed} failed. Faults: {faults}.\n{trace}")
            totals += history.report.counts()
    return totals, failures


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--histories", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the next has the next")
    options = parser.parse_args()
    # The histories use what the tests share.
    sys.path.insert(0, str(TESTS.parent))
    end = options.seed + options.histories
    chunks = [range(s, min(s + CHUNK, end)) for s in range(options.seed, end, CHUNK)]
    began, totals, failed = time.monotonic(), Counter(), 0
    with ProcessPoolExecutor(min(os.cpu_count() or 1, len(chunks) or 1)) as pool:
        for some, failures in pool.map(run, chunks):
            totals += some
            for failure in failures[: max(0, MOST_FAILURES - failed)]:
                print(failure, flush=True)
            failed += len(failures)
    told = ", ".join(f"{count:,} {what}" for what, count in totals.items())
    print(f"{told}; {failed} failed, in {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
