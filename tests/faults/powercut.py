"""What a disk may hold after a power cut, from a trace of what the server asked of it.

A write is certain only once a later sync of its file has returned; of everything else, nothing or
any part may have arrived. For each acknowledgement the image of the files at that moment is made
twice, with nothing and with some of what was never synced, and the event must be in both.
"""

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from receiver.store.connection import connect, sqlite3
from tests.faults.checking import check
from tests.faults.load import Load

CALLS = "pwrite64,write,fsync,fdatasync,ftruncate,unlink,sendto,recvfrom"
PREFIX = ("strace", "-f", "-y", "-xx", "-s", "4000000", "-e", f"trace={CALLS}", "-o")
SECTOR = 512

_LINE = re.compile(r"^(\d+)\s+(?:<\.\.\. )?(\w+)( resumed>)?\(?(.*)$")
_FD = re.compile(r"^(\d+)<((?:\\x[0-9a-f]{2}|[^>])*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_ASKED = re.compile(rb"x-trace: ([0-9a-f]{64})", re.IGNORECASE)


@dataclass
class File:
    """What is certain of a file, and what was asked since: (offset, bytes), or a new length."""

    certain: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    synced: int = 0

    @property
    def asked(self) -> int:
        """How many changes were asked for until now."""
        return self.synced + len(self.pending)

    def sync(self, asked: int) -> None:
        """The first `asked` changes are on disk."""
        count = max(0, asked - self.synced)
        for change in self.pending[:count]:
            _apply(self.certain, *change)
        del self.pending[:count]
        self.synced += count

    def image(self, chance: random.Random | None) -> bytes:
        """The certain bytes, and with a `chance` some of the pending sectors."""
        image = bytearray(self.certain)
        for offset, data in self.pending if chance else ():
            if data is None:
                continue
            for start in range(0, len(data), SECTOR):
                if chance.random() < 0.5:
                    _apply(image, offset + start, data[start : start + SECTOR])
        return bytes(image)


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(bytes(offset - len(content)))
    else:
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data


def _bytes(text: str) -> bytes:
    found = _TEXT.search(text)
    return bytes.fromhex(found[1].replace("\\x", "")) if found else b""


def acknowledged(trace: Path, files: dict[str, File]) -> Iterator[str]:
    """Bring `files` (by path) forward to each 204 in turn and yield the hash it acknowledges."""
    asked: dict[tuple[str, str], bytes] = {}
    syncing: dict[str, tuple[File, int]] = {}
    begun: dict[str, str] = {}
    with trace.open() as lines:
        for line in lines:
            if not (match := _LINE.match(line)):
                continue
            pid, call, resumed, rest = match.groups()
            is_whole = not rest.endswith("<unfinished ...>")
            if resumed:
                rest, began = begun.pop(pid, "") + rest, False
            else:
                began = True
                if not is_whole:
                    begun[pid] = rest.removesuffix("<unfinished ...>")
            is_done = bool(resumed) or is_whole
            if call == "unlink":
                if began and (file := files.get(_bytes(rest).decode())):
                    file.sync(file.asked)
                    file.certain.clear()
                continue
            if not (fd := _FD.match(rest)):
                continue
            number, path = fd[1], _path(fd[2])
            if call == "recvfrom" and is_done:
                asked[pid, number] = asked.get((pid, number), b"") + _bytes(rest)
            elif call == "sendto" and began:
                question = asked.pop((pid, number), b"")
                if _bytes(rest).startswith(b"HTTP/1.1 204"):
                    yield _ASKED.search(question)[1].decode()
            elif file := files.get(path):
                _disk(file, call, pid, rest, syncing, began=began, is_done=is_done)


def _path(text: str) -> str:
    return _bytes(f'"{text}"').decode() if text.startswith("\\x") else text


def _disk(file, call, pid, rest, syncing, *, began, is_done) -> None:
    if call in ("fsync", "fdatasync"):
        # What is written while a sync runs is not covered by it.
        if began:
            syncing[pid] = file, file.asked
        if is_done:
            assert rest.endswith("= 0"), rest
            synced, asked = syncing.pop(pid)
            synced.sync(asked)
    elif call == "pwrite64" and began:
        offset = int(re.search(r'", \d+, (\d+)', rest)[1])
        file.pending.append((offset, _bytes(rest)))
    elif call == "ftruncate" and began:
        file.pending.append((int(re.search(r">, (\d+)", rest)[1]), None))
    else:
        assert call != "write", "the database is written in a way that the trace cannot follow"


def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return (
        subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0
    )


needs_strace = pytest.mark.skipif(
    not can_trace(), reason="waits for strace and the right to trace a process"
)


def traced_load(serve, db_path, *, pairs=40, patch=""):
    """Post under strace; return the load, the trace and the files as they were before."""
    begin = {str(db_path): File(bytearray(db_path.read_bytes()))}
    begin[f"{db_path}-wal"] = File()
    trace = db_path.with_name("trace")
    server = serve(prefix=(*PREFIX, str(trace)), patch=patch).start()
    load = Load(server, clients=4, pairs=pairs).run()
    server.stop()
    return load, trace, begin


def check_images(db_path, load, trace, files):
    """Look for each acknowledged event in the images of the moment of its answer."""
    chance = random.Random(1)
    folder = db_path.with_name("image")
    acked, images, lost = set(), 0, 0
    for sha in acknowledged(trace, files):
        acked.add(sha)
        for some in (None, chance):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for path, file in files.items():
                image = file.image(some)
                if image:
                    (folder / path.rpartition("/")[2]).write_bytes(image)
            lost += not is_in(folder / db_path.name, sha)
            images += 1
    assert acked == load.acked, "the trace and the clients disagree"
    assert not lost, f"{lost} of {images} images lack the acknowledged event"
    # The whole of the last one.
    check(folder / db_path.name, acked, load.sent)


def is_in(path, sha) -> bool:
    connection = connect(path, busy_timeout_ms=0)
    try:
        found = connection.execute(
            "SELECT 1 FROM observations WHERE body_sha256 = ?", (sha,)
        ).fetchone()
        return found is not None and connection.execute("PRAGMA quick_check").fetchall() == [
            ("ok",)
        ]
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
