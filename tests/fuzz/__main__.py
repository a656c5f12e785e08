"""Fuzz the parsers of bytes from outside with atheris (libFuzzer), each for some time.

`python -m tests.fuzz [SECONDS] [TARGET ...]`; what fails is written to a file `fuzz-TARGET-...`.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).parent.parent
# Beyond that, more bytes say nothing new; the longest seed is a quarter longer.
MAX_BYTES = 12_000


def main(seconds: int, names: list[str]) -> int:
    # The targets use what the tests share.
    sys.path.insert(0, str(TESTS.parent))
    from tests.fuzz.targets import TARGETS, seeds
    from tests.support.json_bodies import TOKENS

    failed = 0
    for name in names or TARGETS:
        with tempfile.TemporaryDirectory() as folder:
            corpus, words = Path(folder, "corpus"), Path(folder, "words")
            corpus.mkdir()
            for n, seed in enumerate(seeds(name)):
                (corpus / f"seed{n}").write_bytes(seed)
            words.write_text("".join(f'"{_escaped(token)}"\n' for token in TOKENS if token))
            failed += _fuzz(name, corpus, f"-dict={words}", f"-max_total_time={seconds}") != 0
    return 1 if failed else 0


def _fuzz(name: str, corpus: Path, *options: str) -> int:
    """Run one target in a process of its own and say what became of it."""
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz.run", name, str(corpus), *options),
            *(f"-max_len={MAX_BYTES}", f"-artifact_prefix=fuzz-{name}-", "-print_final_stats=1"),
        ],
        env=os.environ | {"PYTHONPATH": str(TESTS.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    inputs = re.search(r"number_of_executed_units:\s*(\d+)", ran.stdout)
    covered = re.findall(r"cov: (\d+)", ran.stdout)
    if ran.returncode != 0 or inputs is None:
        print("\n".join(ran.stdout.splitlines()[-60:]))
    count = f"{int(inputs[1]):>12,} inputs" if inputs else " " * 19
    outcome = "failed" if ran.returncode else "nothing found"
    print(f"{name:8}{count}  {covered[-1] if covered else 0:>6} edges  {outcome}", flush=True)
    return ran.returncode


def _escaped(token: bytes) -> str:
    """A word of libFuzzer's dictionary."""
    return "".join(f"\\x{byte:02x}" for byte in token[:60])


if __name__ == "__main__":
    words = sys.argv[1:]
    seconds = int(words.pop(0)) if words and words[0].isdigit() else 60
    sys.exit(main(seconds, words))
