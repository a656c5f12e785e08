"""Kept recordings: played and downloaded in ranges, by readers of personal data alone."""

import os
import re

import pytest

from receiver import config
from receiver.jobs.storage import storage_of
from receiver.sandbox.recordings import recording
from tests.support.browsing import add_users, simple, visiting
from tests.support.buckets import bucket
from tests.support.recording import LINKS, keep_file, kept_environ
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite
WAV = recording({"duration_ms": 3000}, stereo=False)
PATH = "/-/media/call_1/recording"


@pytest.fixture
def settings(db_path, tmp_path):
    return config.load(kept_environ(db_path, tmp_path))


@pytest.fixture
def call(store):
    stored(store, simple("call_1", ("agent", "Hello"), ("user", "Hi"), **LINKS))


@pytest.fixture
def served(settings):
    """Get a path, as admin or as nobody, with headers."""
    with visiting(settings) as get:
        yield get


def test_kept_recording_is_served_whole(served, call, store, settings):
    keep_file(store, settings, WAV)
    answer = served(PATH)
    assert (answer.status_code, answer.content) == (200, WAV)
    headers = answer.headers
    assert headers["content-type"] == "audio/wav"
    assert headers["content-length"] == str(len(WAV))
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-disposition"] == 'inline; filename="call_1-recording.wav"'
    assert headers["cache-control"] == "private, no-store"
    assert headers["content-security-policy"].startswith("default-src 'self'")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1), ("bytes=100-199", 100, 200), ("bytes=100-", 100, len(WAV)),
        ("bytes=-10", len(WAV) - 10, len(WAV)), ("bytes=0-999999999", 0, len(WAV)),
        ("bytes=-999999999", 0, len(WAV)),
    ],
)  # fmt: skip
def test_range_is_served_alone(served, call, store, settings, asked, start, end):
    keep_file(store, settings, WAV)
    answer = served(PATH, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, WAV[start:end])
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(WAV)}"


@pytest.mark.parametrize(
    "asked", ["bytes=5-2", "bytes=0-1,4-5", "chars=0-1", "bytes=-", "bytes=x-"]
)
def test_malformed_range_is_the_whole_file(served, call, store, settings, asked):
    keep_file(store, settings, WAV)
    answer = served(PATH, headers={"Range": asked})
    assert answer.content == WAV


def test_range_outside_of_the_file_is_refused(served, call, store, settings):
    keep_file(store, settings, WAV)
    for asked in (f"bytes={len(WAV)}-", "bytes=-0"):
        answer = served(PATH, headers={"Range": asked})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{len(WAV)}"


def test_long_file_is_played_in_parts(served, call, store, settings):
    content = WAV[:44] + os.urandom(5_000_000)
    keep_file(store, settings, content)
    first = served(PATH, headers={"Range": "bytes=0-"})
    assert (first.status_code, len(first.content)) == (206, 4 * 1024 * 1024)
    rest = served(PATH, headers={"Range": f"bytes={len(first.content)}-"})
    assert first.content + rest.content == content
    assert served(f"{PATH}?download", headers={"Range": "bytes=0-"}).content == content


def test_unchanged_recording_is_not_sent_again(served, call, store, settings):
    keep_file(store, settings, WAV)
    etag = served(PATH).headers["etag"]
    assert served(PATH, headers={"If-None-Match": etag}).status_code == 304
    same = served(PATH, headers={"Range": "bytes=0-1", "If-Range": etag})
    other = served(PATH, headers={"Range": "bytes=0-1", "If-Range": '"another"'})
    assert (same.status_code, other.status_code) == (206, 200)


def test_page_plays_and_offers_the_kept_copy(served, call, store, settings):
    keep_file(store, settings, WAV)
    page = served("/-/call/call_1").text
    assert re.findall(r'<audio[^>]* src="([^"]+)"', page) == [
        PATH, "https://recordings.example/b.wav",
    ]  # fmt: skip
    assert f'href="{PATH}?download"' in page
    answer = served(f"{PATH}?download")
    assert answer.headers["content-disposition"] == 'attachment; filename="call_1-recording.wav"'


def test_page_without_kept_copy_plays_retells(served, call):
    page = served("/-/call/call_1").text
    assert "https://recordings.example/a.wav" in page
    assert "/-/media/" not in page
    assert served(PATH).status_code == 404


def test_log_is_text_whatever_its_stored_type(served, call, store, settings):
    log = b"<script>alert(1)</script>"
    keep_file(store, settings, log, kind="public_log", content_type="text/plain")
    answer = served("/-/media/call_1/public_log")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert "/-/media/call_1/public_log" in served("/-/call/call_1").text
    store.run(lambda c: c.execute("UPDATE media_files SET content_type = 'text/html'"))
    answer = served("/-/media/call_1/public_log")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment")


def test_recordings_need_a_login(served, call, store, settings):
    keep_file(store, settings, WAV)
    answer = served(PATH, actor=False)
    assert answer.status_code == 302
    assert WAV[:4] not in answer.content


def test_masked_reader_gets_no_recording(call, store, settings, db_path):
    keep_file(store, settings, WAV)
    add_users(db_path, {"max": "masked"})
    with visiting(settings, user="max") as get:
        for path in (PATH, f"{PATH}?download"):
            assert get(path).status_code == 404
        page = get("/-/call/call_1")
        assert page.status_code == 200
        assert "<audio" not in page.text
        assert "/-/media/" not in page.text


def test_missing_file_is_an_error_page(served, call, store, settings):
    keep_file(store, settings, WAV)
    storage_of(settings).delete("call_1/recording.wav")
    assert served(PATH).status_code == 503


def test_head_says_how_long_it_is(served, call, store, settings):
    keep_file(store, settings, WAV)
    answer = served(PATH, method="HEAD")
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(len(WAV))


def test_recording_in_a_bucket_is_served_in_ranges(call, store, db_path, tmp_path, monkeypatch):
    with bucket(monkeypatch) as url:
        settings = config.load(kept_environ(db_path, tmp_path) | {"CALLHOUSE_MEDIA_URL": url})
        content = WAV[:44] + os.urandom(1_000_000)
        keep_file(store, settings, content)
        with visiting(settings) as get:
            assert get(PATH).content == content
            answer = get(PATH, headers={"Range": "bytes=10-700000"})
            assert (answer.status_code, answer.content) == (206, content[10:700_001])
