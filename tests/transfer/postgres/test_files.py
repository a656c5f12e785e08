"""A server gives the files that SQLite gives: the same deliveries to both engines."""

import re
from datetime import date

import pyarrow.parquet
import pytest

from receiver.store import migrate, open_store
from receiver.transfer import Export, export_partitions
from receiver.transfer import export as write
from schema.sql.views import views
from schema.tables import TABLES
from tests.support.exporting import settings_of, silent
from tests.support.histories import deliver, seeded
from tests.support.parity import tell

NAMES = [*(table.name for table in TABLES), *views()]
# The last digits of a sum depend on the order in which it is added.
_NUMBER = re.compile(r"-?\d+\.\d{12,}(e[+-]?\d+)?")
# Times of words are numbers there, and whatever was sent in a file of SQLite's.
_AS_SENT = {"words"}


@pytest.fixture(scope="module")
def both(postgres, tmp_path_factory):
    """A server's database and a file with the same calls of every shape; no test changes them."""
    where = postgres.blank(), tmp_path_factory.mktemp("both") / "retell.db"
    migrate(where[1], timezone="UTC")
    for each in where:
        tell(each)
        store = open_store(each)
        deliver(store, seeded(3, 60))
        store.close()
    return where


def lines(where, path, name, **how) -> list[str]:
    write(settings_of(where), Export(name, path, **how), progress=silent)
    text = _NUMBER.sub(lambda found: repr(float(f"{float(found[0]):.12g}")), path.read_text())
    first, *rest = text.splitlines() or [""]
    return [first, *sorted(rest)] if path.suffix == ".csv" else sorted([first, *rest])


@pytest.mark.parametrize(
    ("form", "timezone"),
    [("csv", None), pytest.param("ndjson", "Asia/Kolkata", marks=pytest.mark.slow)],
)
def test_server_exports_equal_file_exports(both, tmp_path, form, timezone):
    for name in NAMES:
        how = {"timezone": timezone, "private": True}
        server, file = (
            lines(where, tmp_path / f"{n}.{form}", name, **how) for n, where in enumerate(both)
        )
        if name in _AS_SENT:
            server, file = (
                [re.sub(r"\b(\d+)\.0\b", r"\1", line) for line in found] for found in (server, file)
            )
        if name != "observations":
            assert server == file, name
        # Two compressions of a body may differ.
        assert len(server) == len(file)


@pytest.mark.slow
def test_parquet_has_the_same_columns_and_values(both, tmp_path):
    for name in NAMES:
        tables = []
        for n, where in enumerate(both):
            path = tmp_path / f"{n}.parquet"
            write(settings_of(where), Export(name, path), progress=silent)
            tables.append(pyarrow.parquet.read_table(path))
        assert tables[0].schema == tables[1].schema, name
        assert len(tables[0]) == len(tables[1])


@pytest.mark.parametrize("name", ["calls", "utterances", "chats", "call_log", "daily_summary"])
def test_since_a_day_are_the_same_rows(both, tmp_path, name):
    whole, late = (
        [lines(where, tmp_path / f"{n}.csv", name, since=since) for n, where in enumerate(both)]
        for since in (None, date(2026, 5, 12))
    )
    assert late[0] == late[1]
    assert 1 < len(late[0]) < len(whole[0])


@pytest.mark.slow
def test_fingerprints_are_equal_on_both_engines(both, tmp_path):
    for where, name in zip(both, ("server", "file"), strict=True):
        export_partitions(settings_of(where), str(tmp_path / name), private=False, progress=silent)
    manifests = [(tmp_path / name / "_callhouse.json").read_text() for name in ("server", "file")]
    assert manifests[0] == manifests[1]
    # A warehouse that moved to a server goes on with the files it has.
    done = export_partitions(
        settings_of(both[0]), str(tmp_path / "file"), private=False, progress=silent
    )
    assert (done.files, done.removed) == (0, 0)
    for path in (tmp_path / "file").rglob("*.parquet"):
        other = tmp_path / "server" / path.relative_to(tmp_path / "file")
        if "observations" not in path.name:
            assert path.read_bytes() == other.read_bytes(), path
        # They lie in the order of their arrival in a file, and of their time on a server.
        found = [pyarrow.parquet.ParquetFile(each).read().to_pylist() for each in (path, other)]
        assert sorted(map(repr, found[0])) == sorted(map(repr, found[1])), path
