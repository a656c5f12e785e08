"""Backups while something else is wrong: the list of erasures, the bucket's rights, the clock."""

import os
import shutil
from dataclasses import replace

import httpx
import pytest
from click.testing import CliRunner

from receiver.addresses import parse_media
from receiver.cli import main
from receiver.config_file import Backup, ConfigFile
from receiver.errors import BackupFailed
from receiver.jobs.backup import backup, backup_names, make_backup, restore_backup
from receiver.jobs.status import read_status
from receiver.jobs.storage import open_storage
from receiver.jobs.worker import Run, running
from receiver.store.backup import verify
from tests.support.buckets import bucket
from tests.support.engines import url_of
from tests.support.erasing import erased
from tests.support.loopback import Handler, Loopback
from tests.support.storing import add
from tests.support.webhooks import KEY, NOW_MS

pytestmark = pytest.mark.sqlite
DAY_MS = 86_400_000


@pytest.fixture
def calls(store):
    add(store, "call_ended", "call_1", call_status="ended")


@pytest.fixture
def make(settings, tmp_path):
    def run(where=None, *, keep=2, now_ms=NOW_MS):
        return make_backup(settings, where or tmp_path / "backups", keep=keep, now_ms=now_ms)

    return run


def status_after(settings, store, work):
    """The status after a run of the job by a command."""
    with running(settings, "backup", store, now_ms=lambda: NOW_MS) as lease:
        lease.incomplete = work()
    return read_status(settings, now_ms=NOW_MS)


def test_damaged_list_of_erasures_leaves_no_copies(make, calls, tmp_path):
    make()
    (tmp_path / "backups/erasures.json").write_text("{")
    for hour in (1, 2):
        with pytest.raises(BackupFailed, match="damaged"):
            make(now_ms=NOW_MS + hour * 3_600_000)
    assert len(backup_names(open_storage(tmp_path / "backups", partial=tmp_path))) == 1


def test_erasure_without_its_list_says_so(settings, store, calls, tmp_path):
    (tmp_path / "file").touch()
    done = erased(
        replace(settings, file=ConfigFile(backup=Backup(to=str(tmp_path / "file/backups")))),
        store,
        "call_1",
    )
    assert done.left.startswith("an older backup would bring back erased calls")
    assert done.receipt.entities == 1


@pytest.mark.parametrize("text", ["{", "[1]", "[[1]]", "\xff"])
def test_damaged_list_of_erasures_stops_a_restore(make, settings, store, calls, database, text):
    make()
    store.close()
    before = verify(database)
    (database.parent / "backups/erasures.json").write_text(text, "latin-1")
    with pytest.raises(BackupFailed, match="damaged"):
        restore_backup(settings, "backups")
    assert verify(database) == before


def test_new_backup_outlives_those_of_clock_ahead(make, calls, tmp_path):
    for year in (1, 2):
        make(now_ms=NOW_MS + year * 365 * DAY_MS)
    made = make()
    assert made.deleted == []
    assert (tmp_path / "backups" / made.name).exists()


class Append(Handler):
    """A bucket's server, with the rights to write and to read only."""

    target = ""

    def _forward(self):
        if self.command == "DELETE" or "?delete" in self.path:
            status, headers, content = 403, {}, b""
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            skipped = ("host", "connection", "content-length")
            sent = {n: v for n, v in self.headers.items() if n.lower() not in skipped}
            answer = httpx.request(
                self.command, self.target + self.path, headers=sent, content=body
            )
            status, headers, content = answer.status_code, answer.headers, answer.content
        self.send_response(status)
        for name in ("etag", "last-modified", "content-type", "content-range"):
            if name in headers:
                self.send_header(name, headers[name])
        length = headers.get("content-length", "0") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _forward


def test_backup_is_made_where_deletion_is_refused(settings, store, calls, monkeypatch, tmp_path):
    with bucket(monkeypatch) as url:
        where = parse_media(url)
        Append.target = os.environ["AWS_ENDPOINT_URL"]
        with Loopback(Append) as server:
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
            file = replace(settings.file, backup=replace(settings.file.backup, to=url, keep=1))
            run = Run(replace(settings, file=file), store)
            days = iter(range(2))
            run.now_ms = lambda: NOW_MS + next(days) * DAY_MS
            assert backup(run) is None
            found = status_after(settings, store, lambda: backup(run))
            assert found.last_backup_ms == NOW_MS
            [row] = [job.row for job in found.jobs if job.row.name == "backup"]
            assert row.problem.startswith("older backups could not be deleted: ")
            assert len(backup_names(open_storage(where, partial=tmp_path))) == 2
            environ = {
                "RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url_of(settings.database),
            }  # fmt: skip
            done = CliRunner(env=environ).invoke(main, ["backup", url, "--keep", "1"])
            assert (done.exit_code, "could not be deleted" in done.output) == (1, True)


def test_failed_run_is_not_called_no_backup(settings, store, calls, make, tmp_path):
    assert status_after(settings, store, lambda: make() and None).last_backup_ms == NOW_MS
    shutil.rmtree(tmp_path / "backups")
    (tmp_path / "backups").touch()
    with pytest.raises(BackupFailed):
        status_after(settings, store, make)
    found = read_status(settings, now_ms=NOW_MS)
    assert (found.last_backup_ms, found.without_backup) == (None, "the last run failed")
