"""Files by name in a directory and in a bucket: the same promises of both."""

import asyncio
import os
import stat

import pytest

from receiver.addresses import parse_media
from receiver.errors import StorageUnavailable
from receiver.jobs.storage import folder_of, open_storage
from tests.support.buckets import bucket


@pytest.fixture(params=["directory", "bucket"])
def storage(request, tmp_path, monkeypatch):
    partial = tmp_path / "partial"
    if request.param == "directory":
        yield open_storage(parse_media(f"file:{tmp_path}/media"), partial=partial)
        return
    with bucket(monkeypatch) as url:
        yield open_storage(parse_media(url), partial=partial)


@pytest.fixture
def put(storage):
    def put(name, content):
        storage.partial.mkdir(parents=True, exist_ok=True)
        source = storage.partial / "source"
        source.write_bytes(content)
        storage.put(name, source)

    return put


def read(storage, name, start, end):
    async def collect():
        return b"".join([piece async for piece in storage.read(name, start, end)])

    return asyncio.run(collect())


def test_stored_file_reads_back_in_parts(storage, put):
    content = os.urandom(700_000)
    put("call_a/recording.wav", content)
    assert storage.size("call_a/recording.wav") == len(content)
    assert read(storage, "call_a/recording.wav", 0, len(content)) == content
    assert read(storage, "call_a/recording.wav", 10, 600_010) == content[10:600_010]
    assert read(storage, "call_a/recording.wav", 5, 5) == b""


def test_second_file_replaces_the_first(storage, put):
    put("call_a/recording.wav", b"first")
    put("call_a/recording.wav", b"second")
    assert read(storage, "call_a/recording.wav", 0, 6) == b"second"


def test_deleted_file_is_gone(storage, put):
    put("call_a/recording.wav", b"x")
    storage.delete("call_a/recording.wav")
    storage.delete("call_a/recording.wav")
    assert storage.size("call_a/recording.wav") is None
    with pytest.raises(StorageUnavailable):
        read(storage, "call_a/recording.wav", 0, 1)


def test_deleting_a_folder_leaves_its_neighbour(storage, put):
    for name in ("call_a/recording.wav", "call_a/public_log.txt", "call_ab/recording.wav"):
        put(name, b"x")
    assert storage.delete_folder("call_a") == 2
    assert storage.delete_folder("call_a") == 0
    assert storage.size("call_a/public_log.txt") is None
    assert storage.size("call_ab/recording.wav") == 1


def test_deleted_folder_leaves_no_unfinished_download(storage, put):
    put("call_a/recording.wav", b"x")
    for name in ("call_a.public_log.part", "call_a.public_log.etag", "call_ab.recording.part"):
        (storage.partial / name).write_bytes(b"speech")
    assert storage.delete_folder("call_a") == 1
    assert [path.name for path in storage.partial.glob("call*")] == ["call_ab.recording.part"]


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "a/../../b", "", "a//b", ".partial/a", "A/b", "a\nb"]
)
def test_name_outside_the_root_is_refused(storage, name):
    for use in (storage.size, storage.delete, storage.delete_folder):
        with pytest.raises(ValueError, match="not a name"):
            use(name)


@pytest.mark.parametrize(
    "call_id", ["", ".", "..", "a/b", "a\\b", "Call_A", "a" * 101, "é", "\ud800", "a\0", "sha256-a"]
)
def test_unsafe_id_is_stored_by_its_hash(call_id):
    assert folder_of(call_id).startswith("sha256-")
    assert len(folder_of(call_id)) == len("sha256-") + 64


def test_usual_id_is_the_folder_itself():
    assert folder_of("call_b7559010ef20eb3a8e72252a524") == "call_b7559010ef20eb3a8e72252a524"


def test_kept_files_are_their_owners_alone(tmp_path):
    storage = open_storage(parse_media(f"file:{tmp_path}/media"), partial=tmp_path)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(0o644)
    storage.put("call_a/recording.wav", source)
    for path, mode in {"": 0o700, "call_a": 0o700, "call_a/recording.wav": 0o600}.items():
        assert stat.S_IMODE((tmp_path / "media" / path).stat().st_mode) == mode


def test_bucket_that_is_away_is_a_storage_error(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anything")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
    storage = open_storage(parse_media("s3://callhouse"), partial=tmp_path)
    with pytest.raises(StorageUnavailable) as error:
        storage.size("call_a/recording.wav")
    assert "127.0.0.1" not in str(error.value)
