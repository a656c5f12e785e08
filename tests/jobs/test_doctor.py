"""`callhouse doctor`: each check with something wrong, and without."""

import json
import os
import re
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from receiver import config
from receiver.cli import main
from receiver.clock import now_ms
from receiver.config_file import Backup, ConfigFile, Target
from receiver.errors import SettingsError
from receiver.inbound_rules import InboundRule
from receiver.jobs import doctor
from receiver.jobs.alert_rules import AlertSettings
from receiver.jobs.doctor import CHECKS, MAX_WAL_BYTES, CheckContext, examine
from receiver.jobs.status import free_on_disk, read_status
from receiver.retell.client import Retell
from receiver.retell.webhooks import set_webhook
from receiver.sandbox.server import Sandbox
from receiver.store import connection as connections
from receiver.store.jobs import JobRow, claim, finish
from receiver.webhook.health import Counters, note
from receiver.webhook.signature import key_id
from tests.support import ROOT
from tests.support.engines import url_of
from tests.support.grading import registered, with_grading, without_keys
from tests.support.loopback import Handler, Loopback
from tests.support.running import free_address
from tests.support.serving import serving
from tests.support.storing import add
from tests.support.webhooks import KEY, NOW_MS

DAY_MS = 86_400_000


@pytest.fixture
def examined(settings):
    """Make the named check; return the findings, which have a hint if something is wrong."""

    def run(name, *, status=None, clock=lambda: NOW_MS, **changes):
        changed = replace(settings, **changes)
        found = read_status(changed, now_ms=NOW_MS)
        [check] = [check for check in CHECKS if check.__name__ == f"_{name}"]
        context = CheckContext(changed, replace(found, **(status or {})), clock)
        findings = list(check(context))
        assert all(finding.hint for finding in findings if finding.is_wrong)
        return findings

    return run


def wrong(findings) -> list[str]:
    return [finding.what for finding in findings if finding.is_wrong]


def run_job(store, name, *, at_ms=NOW_MS, result="done", failures=0, next_run_at=None):
    claim(store, JobRow(name), owner="worker", now_ms=at_ms, lease_ms=60_000)
    problem = "no connection" if failures else None
    finish(store, JobRow(name, at_ms, at_ms, result, problem, failures, next_run_at, "worker"))


def test_every_check_has_a_test():
    text = Path(__file__).read_text("utf-8")
    for check in CHECKS:
        assert f'examined("{check.__name__[1:]}"' in text, check


def test_damaged_database_is_wrong(examined):
    assert wrong(examined("database")) == []
    problem = "the database is damaged: a page is never used"
    assert wrong(examined("database", status={"problems": [problem]})) == [problem]


def test_inbound_rule_that_cannot_run_is_wrong(examined, settings):
    assert examined("inbound") == []
    good, bad = (InboundRule("r", history=sql) for sql in ("SELECT 1 AS a", "SELECT nothing"))
    [found] = examined("inbound", file=replace(settings.file, inbound=(good,)))
    assert not found.is_wrong
    with pytest.raises(SettingsError, match="inbound rule r"):
        examined("inbound", file=replace(settings.file, inbound=(bad,)))


def test_model_that_cannot_be_asked_is_wrong(examined, settings):
    assert examined("grading") == []
    file = with_grading(settings).file
    with registered():
        [found] = examined("grading", file=file)
    assert not found.is_wrong
    with without_keys(), pytest.raises(SettingsError, match="knows no model"):
        examined("grading", file=file)


@pytest.mark.sqlite
def test_connection_without_its_pragmas_is_wrong(settings, monkeypatch):
    context = CheckContext(settings, read_status(settings, now_ms=NOW_MS), lambda: NOW_MS)
    monkeypatch.setitem(connections._PRAGMAS, "synchronous", 7)
    [first, *_] = [finding for finding in examine(context) if finding.is_wrong]
    assert (first.subject, "PRAGMA synchronous" in first.what) == ("database", True)


@pytest.mark.sqlite
def test_sqlite_with_known_bug_is_wrong(examined, monkeypatch):
    monkeypatch.setattr(connections, "FIXED_SQLITE", (3, 0, 0))
    assert wrong(examined("sqlite")) == []
    monkeypatch.setattr(connections, "FIXED_SQLITE", (99, 0, 0))
    assert "write-ahead-log bug" in wrong(examined("sqlite"))[0]


@pytest.mark.sqlite
def test_file_that_others_can_read_is_wrong(examined, database):
    database.chmod(0o600)
    for beside in database.parent.glob("retell.*"):
        beside.chmod(0o600)
    assert wrong(examined("files")) == []
    database.chmod(0o644)
    assert wrong(examined("files"))[0] == f"others can read {database} (644)"
    for file in database.parent.glob("retell.*"):
        file.chmod(0o600)
    Path("callhouse.toml").touch()
    # Whatever the umask is.
    Path("callhouse.toml").chmod(0o640)
    assert wrong(examined("files")) == []
    file = ConfigFile(forward=(Target("a", "http://a/", secret=b"secret"),))
    assert wrong(examined("files", file=file)) == ["others can read callhouse.toml (640)"]
    file = ConfigFile(alerts=AlertSettings(notify=("slack://token",)))
    assert wrong(examined("files", file=file)) == ["others can read callhouse.toml (640)"]


@pytest.mark.sqlite
def test_disk_that_is_full_soon_is_wrong(examined, monkeypatch):
    free = free_on_disk(Path.cwd() / "x")
    growth = {"free_disk_bytes": free, "bytes_per_day": free // 100}
    assert wrong(examined("disk", status=growth)) == []
    [what] = wrong(examined("disk", status=growth | {"bytes_per_day": free // 13}))
    assert "enough for 13 days" in what
    monkeypatch.setattr(doctor, "MIN_FREE_BYTES", 10**18)
    assert len(wrong(examined("disk"))) == 1


@pytest.mark.sqlite
def test_long_write_ahead_log_is_wrong(examined):
    assert wrong(examined("log")) == []
    assert wrong(examined("log", status={"wal_bytes": MAX_WAL_BYTES + 1})) == ["536.9 MB long"]


def test_refused_events_are_wrong(examined, settings):
    assert wrong(examined("traffic")) == []
    counters = Counters(settings.counters_path)
    note(counters, "stale", now_ms=NOW_MS)
    counters.close()
    assert wrong(examined("traffic")) == [
        "authentic events arrived too old: check this machine's clock"
    ]


def test_missing_key_is_wrong(examined):
    assert wrong(examined("keys")) == []
    assert len(wrong(examined("keys", accounts=()))) == 1


def test_key_that_signed_last_must_be_set(examined, store, db):
    add(store, "call_ended", "c", at=NOW_MS, received=NOW_MS)
    db.execute("UPDATE observations SET key_id = ?", (key_id(KEY),))
    assert wrong(examined("keys")) == []
    db.execute("UPDATE observations SET key_id = ?", (key_id("key_of_before"),))
    [what] = wrong(examined("keys"))
    assert key_id("key_of_before") in what


@pytest.fixture
def box():
    with Sandbox(api_key=KEY, seed=1, speed=0, limits=None) as box:
        yield box


def test_clock_that_is_wrong_is_found(examined, box):
    assert wrong(examined("api", base_url=box.url, clock=now_ms)) == []
    for skew, word in ((90_000, "ahead"), (-90_000, "behind")):
        [what] = wrong(examined("api", base_url=box.url, clock=lambda skew=skew: now_ms() + skew))
        assert re.search(rf"about (89|9[01]) seconds {word}", what), what


def test_api_that_does_not_answer_is_wrong(examined):
    [what] = wrong(examined("api", base_url=f"http://{free_address()}"))
    assert "no answer from http://127.0.0.1" in what


def test_agent_with_another_url_is_wrong(examined, box):
    file = ConfigFile(public_url="https://calls.example.com/webhook")
    assert wrong(examined("agents", base_url=box.url, file=file)) == []
    with Retell(box.url, KEY) as retell:
        [first, second, *_] = [agent["agent_id"] for agent in retell.agents()]
        set_webhook(retell, first, "https://calls.example.com/webhook", channel="voice")
        assert wrong(examined("agents", base_url=box.url, file=file)) == []
        set_webhook(retell, second, "https://elsewhere.example.com/", channel="voice")
    [what] = wrong(examined("agents", base_url=box.url, file=file))
    assert what.startswith("1 of ")
    # Without a URL of its own to compare with, it is a remark.
    assert wrong(examined("agents", base_url=box.url)) == []


def test_public_url_that_does_not_work_is_wrong(examined, settings):
    with serving(settings) as url:
        assert wrong(examined("public_url", file=ConfigFile(public_url=url))) == []

    class Answering(Handler):
        def do_POST(self):
            self.send_error(404)

    with Loopback(Answering) as other:
        [what] = wrong(examined("public_url", file=ConfigFile(public_url=other.url)))
    assert "no webhook at this path" in what
    assert wrong(examined("public_url")) == []


@pytest.mark.sqlite
def test_login_and_secret_are_needed(examined, database):
    [what] = wrong(examined("login"))
    assert "neither a password nor users" in what
    assert wrong(examined("login", browse_password="long enough")) == []
    database.with_suffix(".secret").touch()
    [what] = wrong(examined("login", browse_password="long enough"))
    assert "is empty" in what
    assert wrong(examined("login", browse_password="long enough", secret="s")) == []


def test_jobs_that_never_ran_or_fail_are_wrong(examined, store):
    assert wrong(examined("jobs")) == ["no job has ever run"]
    run_job(store, "roll_up", next_run_at=NOW_MS)
    assert wrong(examined("jobs")) == []
    run_job(store, "sync", failures=1, result="failed", next_run_at=NOW_MS)
    assert wrong(examined("jobs")) == ["sync failed: no connection"]


def test_incomplete_job_is_wrong(examined, store):
    row = JobRow("forward", NOW_MS, NOW_MS, "incomplete", "3 events were given up", 0, NOW_MS, "w")
    claim(store, JobRow("forward"), owner="w", now_ms=NOW_MS, lease_ms=60_000)
    finish(store, row)
    file = ConfigFile(forward=(Target("a", "http://a/"),))
    assert wrong(examined("jobs", file=file)) == ["forward: 3 events were given up"]


def test_overdue_job_is_wrong(examined, store):
    run_job(store, "sync", at_ms=NOW_MS - DAY_MS, next_run_at=NOW_MS - DAY_MS)
    [what] = wrong(examined("jobs"))
    assert what.startswith("a job is overdue: sync")


@pytest.mark.sqlite
def test_old_backup_is_wrong(examined, store):
    assert wrong(examined("backups")) == ["none was made"]
    elsewhere = ConfigFile(backup=Backup(elsewhere=True))
    assert wrong(examined("backups", file=elsewhere)) == []
    run_job(store, "backup", at_ms=NOW_MS - DAY_MS)
    assert wrong(examined("backups")) == []
    weekly = ConfigFile(intervals=ConfigFile().intervals | {"backup": 3600})
    assert wrong(examined("backups", file=weekly)) == ["the last is from 1 day ago"]


def test_yesterday_must_be_covered(examined, db):
    assert wrong(examined("coverage")) == ["2026-05-12 was not compared with Retell"]
    db.execute(
        "INSERT INTO coverage (day, agent_id, listed, stored, missing, incomplete, checked_at) "
        "VALUES ('2026-05-12', 'a', 10, 10, 0, 0, ?)",
        (NOW_MS - 2 * 3_600_000,),
    )
    assert wrong(examined("coverage")) == []
    db.execute("UPDATE coverage SET stored = 9, missing = 1")
    assert wrong(examined("coverage")) == [
        "2026-05-12: 9 of 10 calls stored, 1 missing, 0 incomplete, compared 2 hours ago"
    ]


def test_check_that_cannot_be_made_is_wrong(settings):
    context = CheckContext(replace(settings, base_url="http://127.0.0.1:1"), None, now_ms)
    found = [finding for finding in examine(context) if finding.is_wrong]
    assert {finding.subject for finding in found} >= {"API", "agents"}


@pytest.fixture
def invoke(database, box):
    environ = {
        "RETELL_API_KEY": KEY,
        "RETELL_BASE_URL": box.url,
        "CALLHOUSE_DATABASE_URL": url_of(database),
    }
    return lambda *arguments, **more: CliRunner(env=environ | more).invoke(main, arguments)


def test_command_says_what_to_do(invoke):
    result = invoke("doctor")
    assert result.exit_code == 1, result.output
    assert "jobs             wrong: no job has ever run" in result.output
    assert "Start `callhouse work`" in result.output
    assert result.output.splitlines()[-1].endswith("are wrong.")
    assert KEY not in result.output


def test_command_prints_json(invoke):
    found = json.loads(invoke("doctor", "--json").output)
    assert found["wrong"] == sum(finding["is_wrong"] for finding in found["findings"]) > 0


@pytest.mark.sqlite
def test_command_without_database_exits_two(invoke, tmp_path):
    result = invoke("doctor", CALLHOUSE_DATABASE_URL=f"sqlite:///{tmp_path}/none.db")
    assert result.exit_code == 2
    assert "there is no database" in result.output


@pytest.mark.sqlite
def test_pending_migration_is_named(invoke, database):
    database.unlink()
    with closing(connections.sqlite3.connect(database)) as old:
        old.executescript((ROOT / "tests/databases/0005_key_positions.sql").read_text("utf-8"))
    result = invoke("doctor")
    assert result.exit_code == 2
    assert "the database does not have this version's schema" in result.output
    assert "reference/health.md" in result.output
    assert invoke("status").exit_code == 1


@pytest.mark.sqlite
def test_unknown_migration_is_named(invoke, engine, db):
    engine.note_migration(db, "9999_of_tomorrow")
    result = invoke("doctor")
    assert result.exit_code == 2
    assert "the database has migrations this version does not know" in result.output


@pytest.mark.sqlite
def test_command_exits_zero_when_all_is_well(invoke, store, db, database, tmp_path):
    now = now_ms()
    (tmp_path / "callhouse.toml").write_text("[backup]\nelsewhere = true\n", "utf-8")
    for name in ("roll_up", "sync"):
        run_job(store, name, at_ms=now, next_run_at=now)
    yesterday = time.strftime("%Y-%m-%d", time.gmtime(now / 1000 - 86_400))
    db.execute("INSERT INTO coverage (day, agent_id, checked_at) VALUES (?, 'a', 5)", (yesterday,))
    for file in tmp_path.iterdir():
        if file.is_file():
            os.chmod(file, 0o600)
    result = invoke("doctor", CALLHOUSE_BROWSE_PASSWORD="long enough")
    assert result.exit_code == 0, result.output
    assert result.output.endswith("All is well.\n")
    assert config.load({}).file.backup.elsewhere
