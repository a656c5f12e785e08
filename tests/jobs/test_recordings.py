"""Recordings of calls that are over become kept files, through expired links and failures."""

import hashlib

import httpx
import pytest

from receiver.jobs.downloads import Downloader
from receiver.jobs.erase import Files, erase_unit, new_receipt
from receiver.jobs.recordings import FIRST_RETRY_MS, SETTLING_MS, _links, keep_recordings
from receiver.jobs.worker import Worker, functions
from receiver.store import media
from receiver.store.engine import reading
from receiver.store.jobs import job_rows
from receiver.store.media import Outcome
from schema.rows import MEDIA_KINDS
from tests.support.buckets import bucket
from tests.support.recording import HOUR_MS, KEY, NOW_MS, Recordings

DAY_MS = 24 * HOUR_MS


@pytest.fixture(autouse=True)
def few_samples(monkeypatch):
    """Files of kilobytes."""
    monkeypatch.setattr("receiver.sandbox.recordings.RATE", 400)


@pytest.fixture
def job(store, database, tmp_path):
    with Recordings(store, database, tmp_path) as job:
        yield job


def media_files(db, **where):
    found = db.execute("SELECT * FROM media_files ORDER BY call_id, kind")
    names = [column[0] for column in found.description]
    rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    return [row for row in rows if all(row[k] == v for k, v in where.items())]


def linked(calls) -> int:
    return sum(f"{kind}_url" in call for call in calls for kind in MEDIA_KINDS)


def test_every_kind_of_every_call_is_kept(job, db):
    calls = job.populate(30)
    counts = job.keep()
    assert (counts.kept, counts.failed, counts.problem) == (linked(calls), 0, None)
    files, rows = job.files(), media_files(db)
    assert len(files) == len(rows) == linked(calls)
    assert {row["kind"] for row in rows} == {
        "recording", "recording_multi_channel", "scrubbed_recording",
        "scrubbed_recording_multi_channel", "public_log", "knowledge_base_retrieved_contents",
    }  # fmt: skip
    for row in rows:
        content = files[row["location"]]
        assert row["location"].startswith(f"{row['call_id']}/{row['kind']}.")
        assert (row["state"], row["bytes"]) == ("kept", len(content))
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        assert (row["attempts"], row["fetched_at"], row["problem"]) == (1, NOW_MS, None)
        assert "?" not in row["url"]
    assert {row["content_type"] for row in rows} == {"audio/wav", "text/plain"}


def test_second_run_fetches_nothing(job):
    job.populate(3)
    job.keep()
    asked = len(job.seen)
    assert job.keep().kept == 0
    assert len(job.seen) == asked


def test_call_in_progress_is_left_alone(job):
    [call] = job.populate(1)
    job.keep()
    fresh = call | {"call_id": "call_live", "call_status": "ongoing"}
    for name in ("end_timestamp", "disconnection_reason", "call_analysis"):
        del fresh[name]
    job.tell(fresh, event="call_started")
    assert job.keep().kept == 0


def test_scrubbed_recording_alone_is_kept(job, db):
    job.populate(1, kinds=["scrubbed_recording"])
    job.keep()
    assert {row["kind"] for row in media_files(db)} == {"scrubbed_recording"}


def test_expired_link_is_renewed_through_get_call(job, db):
    calls = job.populate(4)
    job.now_ms.now_ms += 2 * DAY_MS
    counts = job.keep()
    assert media_files(db, state="failed") == []
    assert counts.kept == linked(calls)
    asked = [path for path in job.seen if path.startswith("/v2/get-call/")]
    assert len(set(asked)) == len(calls)


def test_expired_link_without_key_is_tried_later(job, db):
    job.populate(1, kinds=["recording"])
    job.now_ms.now_ms += 2 * DAY_MS
    del job.environ["RETELL_API_KEY"]
    assert job.keep().problem == "1 file could not be fetched"
    [row] = media_files(db)
    assert row["state"] == "failed"
    assert "API key" in row["problem"]
    assert row["next_attempt_at"] > job.now_ms()


def test_deleted_call_is_gone(job, db):
    [call] = job.populate(1, kinds=["recording"])
    headers = {"Authorization": f"Bearer {KEY}"}
    httpx.delete(f"{job.box.url}/v2/delete-call/{call['call_id']}", headers=headers)
    counts = job.keep()
    assert (counts.gone, counts.problem) == (1, None)
    [row] = media_files(db, state="gone")
    assert row["next_attempt_at"] is None
    assert job.files() == {}


def test_link_dead_at_first_is_tried_again(job, db):
    """Retell may report a call before it has stored its recording."""
    [call] = job.populate(1, kinds=["recording"])
    job.now_ms.now_ms = call["end_timestamp"] + 1000
    content = job.box.calls[call["call_id"]]
    url = content.pop("recording_url")
    # get-call has a link that does not work either.
    content["recording_url"] = url.replace("/media/", "/nothing/")
    assert job.keep().failed == 1
    content["recording_url"] = url
    job.now_ms.now_ms += FIRST_RETRY_MS
    assert job.keep().kept == 1
    assert job.now_ms() - call["end_timestamp"] < SETTLING_MS


def test_failed_file_waits_longer_each_time(store, database, tmp_path, db):
    with Recordings(store, database, tmp_path, fails=lambda _: True) as job:
        job.populate(1, kinds=["recording"])
        waits = []
        for _ in range(4):
            assert job.keep().failed == 1
            [row] = media_files(db)
            waits.append(row["next_attempt_at"] - job.now_ms())
            assert job.keep().failed == 0
            job.now_ms.now_ms = row["next_attempt_at"]
        assert row["attempts"] == 4
    assert waits == sorted(waits)
    assert waits[0] <= FIRST_RETRY_MS < waits[-1]


def test_link_to_this_machine_is_refused(job, db):
    job.populate(1, kinds=["recording"])
    del job.environ["CALLHOUSE_MEDIA_ALLOW_PRIVATE"]
    job.keep()
    [row] = media_files(db)
    assert (row["state"], row["next_attempt_at"]) == ("failed", None)
    assert "not public" in row["problem"]
    assert job.seen == []


def test_nothing_is_fetched_below_the_reserve(job, db):
    job.populate(2, kinds=["recording"])
    job.environ["CALLHOUSE_MEDIA_RESERVE_BYTES"] = str(10**12 - 1)
    assert "CALLHOUSE_MEDIA_RESERVE_BYTES" in job.keep().problem
    assert job.seen == []
    assert {row["state"] for row in media_files(db)} == {"pending"}
    job.environ["CALLHOUSE_MEDIA_RESERVE_BYTES"] = "1"
    assert job.keep().kept == 2


def test_unforeseen_error_of_one_file_stops_no_other(job, db, monkeypatch):
    calls = job.populate(3, kinds=["recording"])
    fetch = Downloader.fetch

    def fail_once(downloader, url, part, **options):
        if calls[1]["call_id"] in part.name:
            raise ValueError(url)
        return fetch(downloader, url, part, **options)

    monkeypatch.setattr(Downloader, "fetch", fail_once)
    counts = job.keep()
    assert (counts.kept, counts.failed) == (2, 1)
    [row] = media_files(db, state="failed")
    assert row["problem"] == "it could not be fetched: ValueError"
    assert row["next_attempt_at"] > job.now_ms()


@pytest.mark.parametrize("at", ["the start", "a request"])
def test_directory_that_cannot_be_written_uses_no_attempts(job, db, at):
    [call] = job.populate(1, kinds=["recording"])
    part = job.folder / ".partial" / f"{call['call_id']}.recording.part"
    job.handler.before = staticmethod(lambda _path: part.mkdir(parents=True))
    if at == "the start":
        part.mkdir(parents=True)
        find(job)
    assert "cannot be written" in job.keep().problem
    assert [(row["state"], row["attempts"]) for row in media_files(db)] == [("pending", 0)]


def test_renewed_calls_are_not_held_in_memory():
    """Two hundred large calls would be gigabytes."""
    call = {"recording_url": "https://a/b", "public_log_url": 5, "transcript": "x" * 9}
    assert _links(call) == {"recording": "https://a/b"}
    assert _links(None) == {}


def test_retry_fetches_what_was_given_up(job, db):
    job.populate(1, kinds=["recording"])
    del job.environ["CALLHOUSE_MEDIA_ALLOW_PRIVATE"]
    job.keep()
    job.environ["CALLHOUSE_MEDIA_ALLOW_PRIVATE"] = "1"
    assert job.keep().kept == 0
    assert media.retry_failed(job.store, now_ms=job.now_ms()) == 1
    assert job.keep().kept == 1


def test_pass_has_a_limit_and_takes_newest_first(job, db):
    older = job.populate(2, kinds=["recording"])
    job.now_ms.now_ms += 1000
    job.tell(newest := older[0] | {"call_id": "call_newest"})
    assert job.keep(limit=1).kept + job.keep(limit=0).kept == 1
    assert [row["call_id"] for row in media_files(db, state="kept")] == ["call_newest"]
    assert newest["recording_url"] == older[0]["recording_url"]


def test_unsafe_id_gets_a_safe_name(job, db):
    [call] = job.populate(1, kinds=["recording"])
    job.tell(call | {"call_id": "../../Evil id"})
    job.keep()
    [row] = media_files(db, call_id="../../Evil id")
    assert row["location"].startswith("sha256-")
    assert row["location"] in job.files()


def test_worker_passes_look_at_recent_calls(job):
    """One pass an hour looks at all of them."""
    job.populate(1, kinds=["recording"])
    assert keep_recordings(job.run()) is None
    job.now_ms.now_ms -= 3 * HOUR_MS
    job.populate(2, kinds=["recording"])
    job.now_ms.now_ms += 3 * HOUR_MS - 60_000
    keep_recordings(job.run())
    assert len(job.files()) == 1
    job.now_ms.now_ms += 2 * HOUR_MS
    keep_recordings(job.run())
    assert len(job.files()) == 3


def test_worker_runs_the_job(job, database):
    job.populate(2, kinds=["recording"])
    jobs = {"recordings": functions()["recordings"]}
    worker = Worker(job.settings, jobs, now_ms=job.now_ms, claim_seconds=0)
    worker.step("recordings", job.store)
    assert len(job.files()) == 2
    with reading(database) as connection:
        assert job_rows(connection)["recordings"].result == "done"


def test_large_backlog_is_found_in_parts(job, db, monkeypatch):
    monkeypatch.setattr("receiver.jobs.recordings.FOUND_FILES", 2)
    monkeypatch.setattr("receiver.store.media._FOUND", 2)
    monkeypatch.setattr("receiver.store.media._NEW", media._NEW.replace("LIMIT 2000", "LIMIT 2"))
    for _ in range(5):
        job.now_ms.now_ms -= 2 * HOUR_MS
        job.populate(1, kinds=["recording"])
    job.now_ms.now_ms = NOW_MS
    passes = 0
    while not passes or job.memory.get("continue_until") is not None:
        keep_recordings(job.run())
        passes += 1
        assert len(media_files(db)) == min(2 * passes, 5)
    assert (passes, len(job.files())) == (3, 5)


def test_empty_url_keeps_nothing(job, db):
    job.populate(1)
    job.environ["CALLHOUSE_MEDIA_URL"] = ""
    assert keep_recordings(job.run()) is None
    assert media_files(db) == []


def test_call_erased_meanwhile_leaves_no_file(job, db):
    [call] = job.populate(1, kinds=["recording"])

    def erase(_path):
        erase_call(job.store, call["call_id"])

    job.handler.before = staticmethod(erase)
    assert job.keep().kept == 0
    assert job.files() == {}
    assert media_files(db) == []


@pytest.mark.parametrize("is_found", [True, False])
@pytest.mark.parametrize("scope", ["all", "recordings"])
def test_file_fetched_during_erasure_is_deleted(job, db, monkeypatch, scope, is_found):
    """The worker stores it after the erasure has deleted the files and before it deletes rows."""
    [call] = job.populate(1, kinds=["recording"])
    if is_found:
        find(job)
    delete = Files.delete

    def delete_and_fetch(files, found):
        deleted = delete(files, found)
        job.keep()
        return deleted

    monkeypatch.setattr(Files, "delete", delete_and_fetch)
    receipt = new_receipt("erase", scope, author="tester", reason=None, now_ms=5)
    done = erase_unit(job.store, Files(job.settings), [call["call_id"]], receipt, now_ms=5)
    assert [name for name in job.files() if not name.startswith(".partial")] == []
    job.keep()
    assert job.files() == {}
    assert dict(done.counts)["media_files"] == 1
    assert [row["state"] for row in media_files(db)] == ([] if scope == "all" else ["pruned"])


def test_tombstone_alone_prevents_keeping(job):
    """The rows of the call are removed in a later transaction."""
    [call] = job.populate(1, kinds=["recording"])

    def forbid(_path):
        values = (call["call_id"], "recordings")
        job.store.run(lambda c: c.execute(_TOMBSTONE, values))

    job.handler.before = staticmethod(forbid)
    assert job.keep().kept == 0
    assert job.files() == {}
    asked = len(job.seen)
    assert job.keep().kept == 0
    assert len(job.seen) == asked


_TOMBSTONE = "INSERT INTO erasures (entity_id, scope) VALUES (?, ?) ON CONFLICT DO NOTHING"


def erase_call(store, call_id):
    def unit(connection):
        connection.execute(_TOMBSTONE, (call_id, "all"))
        for table in ("media", "media_files"):
            connection.execute(f"DELETE FROM {table} WHERE call_id = ?", (call_id,))

    store.run(unit)


def test_leftovers_of_an_erased_call_are_deleted(job):
    """The process was killed after the file had its name, and the call was erased then."""
    [call] = job.populate(1, kinds=["recording"])
    job.keep()
    partial = job.folder / ".partial"
    (partial / f"{call['call_id']}.recording.call").write_text(call["call_id"])
    (partial / f"{call['call_id']}.recording.part").write_bytes(b"speech")
    erase_call(job.store, call["call_id"])
    assert len(job.files()) == 3
    job.keep()
    assert job.files() == {}


def test_two_processes_do_not_fetch_at_once(job):
    job.populate(1, kinds=["recording"])
    seen = []
    job.handler.before = staticmethod(lambda _path: seen.append(job.keep().stopped))
    assert job.keep().kept == 1
    assert seen == ["another process is keeping recordings"]


def test_outcome_of_a_kept_file_is_final(job, db):
    job.populate(1, kinds=["recording"])
    [file] = media.due_files(job.store, now_ms=0, limit=9) or find(job)
    job.keep()
    assert not media.write_outcome(job.store, file, Outcome("gone"), now_ms=1)
    [row] = media_files(db)
    assert row["state"] == "kept"


def find(job):
    media.find_new(job.store, since=0, now_ms=job.now_ms())
    return media.due_files(job.store, now_ms=job.now_ms(), limit=9)


def test_bucket_gets_the_same_files(job, db, monkeypatch):
    calls = job.populate(3)
    job.keep()
    files = job.files()
    with bucket(monkeypatch) as url:
        job.environ["CALLHOUSE_MEDIA_URL"] = url
        job.store.run(lambda c: c.execute("DELETE FROM media_files"))
        assert job.keep().kept == linked(calls)
        import obstore
        from obstore.store import S3Store

        store = S3Store("callhouse", prefix="of/calls", client_options={"allow_http": True})
        found = {m["path"] for page in obstore.list(store) for m in page}
        assert found == files.keys()
        for name, content in files.items():
            assert bytes(obstore.get(store, name).bytes()) == content


def test_bucket_that_is_away_stops_the_pass(job, db, monkeypatch):
    job.populate(2, kinds=["recording"])
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "anything",
        "AWS_SECRET_ACCESS_KEY": "anything",
    }.items():
        monkeypatch.setenv(name, value)
    job.environ["CALLHOUSE_MEDIA_URL"] = "s3://callhouse"
    assert "storage" in job.keep().problem
    assert {(row["state"], row["attempts"]) for row in media_files(db)} == {("pending", 0)}


def keeps_all(job, calls, db):
    """Every link has expired, and one request in five fails."""
    told = job.populate(calls)
    job.now_ms.now_ms += 2 * DAY_MS
    counts = job.keep_until_done()
    assert (counts.kept, counts.gone) == (linked(told), 0)
    files = job.files()
    assert len(files) == linked(told)
    for row in media_files(db):
        assert hashlib.sha256(files[row["location"]]).hexdigest() == row["sha256"]
    assert len({row["call_id"] for row in media_files(db, kind="recording")}) == calls


def one_in_five(number) -> bool:
    return number % 5 == 0


def test_failing_store_and_expired_links_lose_nothing(store, database, tmp_path, db):
    with Recordings(store, database, tmp_path, fails=one_in_five) as job:
        keeps_all(job, 20, db)


@pytest.mark.slow
def test_500_of_500_are_kept(store, database, tmp_path, db):
    with Recordings(store, database, tmp_path, fails=one_in_five) as job:
        keeps_all(job, 500, db)
