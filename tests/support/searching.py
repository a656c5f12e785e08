"""`python -m tests.support.searching FOLDER`: print the files that contain the texts of a JSON
list."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import zstandard

# How a body begins that is compressed with zstd.
_FRAME = rb"\x28\xb5\x2f\xfd"


def search(folder: Path, texts: list[str]) -> Iterator[tuple[str, str]]:
    """Files below a folder and texts that are in them, in compressed bodies too."""
    wanted = re.compile("|".join(map(re.escape, texts)).encode())
    for file in folder.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        frames = (_frame(content[at.start() :]) for at in re.finditer(_FRAME, content))
        for each in (content, *frames):
            yield from ((file.name, text.decode()) for text in wanted.findall(each))


def _frame(content: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(content[:4000])
    except zstandard.ZstdError:
        return b""


if __name__ == "__main__":
    print(json.dumps(sorted(set(search(Path(sys.argv[1]), json.load(sys.stdin))))))
