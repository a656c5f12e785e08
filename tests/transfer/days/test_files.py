"""What the files of each day hold, in a directory and in an object store."""

from contextlib import closing

import pyarrow.fs
import pyarrow.parquet
import pytest

from receiver.store import GROUPS
from receiver.store.connection import connect_readonly
from schema.tables import TABLES
from tests.support.exporting import DAY_MS
from tests.support.webhooks import PAYLOADS
from tests.transfer.days.lake import DAY, NEXT_DAY, NEXT_DAY_MS, UNKNOWN, add, call_ids, files, rows

pytestmark = pytest.mark.slow_on_postgres


@pytest.fixture(scope="module")
def declared(new_database):
    """table -> column -> the type of Parquet for the one that migrations declare."""
    kinds = {"INTEGER": "int64", "REAL": "double", "TEXT": "string", "BLOB": "binary"}
    with closing(connect_readonly(new_database)) as connection:
        return {
            table.name: {
                row[1]: kinds[row[2]]
                for row in connection.execute(f"PRAGMA table_info({table.name})")
            }
            for table in TABLES
        }


@pytest.mark.parametrize("private", [False, True])
def test_files_have_all_rows_in_declared_types(varied_update, lake, db, declared, private):
    varied_update(private=private)
    for table in TABLES:
        columns = [name for name in table.names if name != "body"]
        found = sorted((tuple(row[c] for c in columns) for row in rows(lake, table.name)), key=repr)
        query = f"SELECT {', '.join(columns)} FROM {table.name}"
        assert found == sorted(map(tuple, db.execute(query)), key=repr), table.name
        paths = [*lake.glob(f"{table.name}/**/*.parquet")]
        assert paths, table.name
        for path in paths:
            schema = pyarrow.parquet.read_schema(path)
            assert {f.name: str(f.type) for f in schema} == declared[table.name]


def test_raw_bodies_are_exported_only_with_private(varied_update, lake):
    varied_update(private=True)
    bodies = {row["body"] for row in rows(lake, "observations")}
    kept = {path.read_bytes() for path in PAYLOADS.glob("*.json")} & bodies
    assert len(kept) > 40
    without = varied_update()
    assert {row["body"] for row in rows(lake, "observations")} == {None}
    # What else is there is the same.
    assert without.files == len(list(lake.glob("observations/*/*")))
    varied_update(private=True)
    assert {row["body"] for row in rows(lake, "observations")} == bodies


def test_every_table_is_of_a_group():
    assert {t.name for tables in GROUPS.values() for t in tables} == {t.name for t in TABLES}


def test_calls_by_start_observations_by_arrival_day(store, update, lake):
    add(store, "early", at=DAY_MS, received=NEXT_DAY_MS)
    add(store, "late", at=NEXT_DAY_MS - 1)
    # Without a start, or with one that is no time, the day of its report.
    for number, at in enumerate([None, 10**15, 9 * 10**18]):
        add(store, f"failed{number}", at=at, received=DAY_MS)
    add(store, "timeless", at=-1, received=DAY_MS)
    update()
    assert call_ids(lake, DAY) == {"early", "late", "failed0", "failed1", "failed2"}
    assert call_ids(lake, UNKNOWN) == {"timeless"}
    assert [row["entity_id"] for row in rows(lake, "observations", NEXT_DAY)] == ["early"]
    assert len(rows(lake, "observations", DAY)) == 5


def test_empty_table_has_a_file_with_columns(update, lake):
    done = update()
    assert (done.files, done.removed, done.current) == (len(TABLES), 0, 0)
    for table in TABLES:
        [path] = lake.glob(f"{table.name}/**/*.parquet")
        assert pyarrow.parquet.read_schema(path).names == list(table.names)
    assert rows(lake, "calls") == []


def test_a_file_uri_is_a_directory(store, update, lake):
    add(store, "call", at=DAY_MS)
    update(lake.as_uri())
    assert call_ids(lake) == {"call"}
    assert update().files == 0


@pytest.fixture
def bucket(monkeypatch):
    """The URI of an empty bucket on a store of this machine."""
    server = pytest.importorskip(
        "moto.server", reason="waits for moto: pip install '.[dev-all]'"
    ).ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "anything")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server.start()
    host, port = server.get_host_and_port()
    options = f"endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    store, _ = pyarrow.fs.FileSystem.from_uri(f"s3://lake/?{options}&allow_bucket_creation=true")
    store.create_dir("lake")
    yield f"s3://lake/calls?{options}"
    server.stop()


def test_an_object_store_gets_the_same_files(store, update, lake, bucket):
    add(store, "moves", at=None, received=DAY_MS, event="call_started")
    add(store, "stays", at=DAY_MS + 86_400_000 * 2)
    update()
    update(bucket)
    add(store, "moves", at=NEXT_DAY_MS, transcript="hello")
    assert update(bucket) == update()
    assert update(bucket).files == 0
    remote, root = pyarrow.fs.FileSystem.from_uri(bucket)
    found = remote.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
    contents = {
        info.path.removeprefix(f"{root}/"): remote.open_input_stream(info.path).read()
        for info in found
        if info.is_file
    }
    assert contents == files(lake)
