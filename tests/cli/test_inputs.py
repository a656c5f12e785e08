"""Every command with odd inputs and odd outputs: a sentence and its exit status, no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from receiver.cli import main
from tests.support.running import environment
from tests.support.webhooks import KEY, PAYLOADS

URL = "http://127.0.0.1:9/webhook"


def commands(group=main, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


NUMBERS = [
    (path, param)
    for path, command in commands()
    for param in command.params
    if isinstance(param, click.Option)
    and (
        isinstance(param.type, click.types.IntParamType | click.types.FloatParamType)
        or (isinstance(param.default, int | float) and not isinstance(param.default, bool))
    )
]
# What 0 means something for: a seed, nothing, no waiting.
MAY_BE_ZERO = {"seed", "history", "speed", "drop", "duplicate", "delay", "reorder", "resign_late",
               "future"}  # fmt: skip
ARGUMENTS = {"call": ["+14155550123", "--from", "+14155550100"]}


@pytest.mark.parametrize(
    ("path", "param"), NUMBERS, ids=[f"{' '.join(p)} {o.opts[0]}" for p, o in NUMBERS]
)
def test_numbers_out_of_range_are_refused(path, param):
    values = ["-1", "inf", "nan", "-inf", "1e999", "x", ""]
    values += [] if param.name in MAY_BE_ZERO else ["0"]
    for value in values:
        arguments = [*path, *ARGUMENTS.get(path[0], []), param.opts[0], value]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 2, (value, result.output)
        assert f"Invalid value for '{param.opts[0]}'" in result.stderr, value


def test_commands_have_numbers_to_refuse():
    assert len(NUMBERS) >= 12


@pytest.mark.parametrize(
    "arguments",
    [
        ["sync", "--since"], ["coverage", "--since"], ["export", "calls", "--since"],
        ["grade", "--since"], ["digest", "--day"], ["demo", "--day"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "1969-12-31", "2026-02-30", "today"])
def test_days_out_of_range_are_refused(arguments, day):
    result = CliRunner().invoke(main, [*arguments, day])
    assert result.exit_code == 2
    assert f"Invalid value for '{arguments[-1]}'" in result.stderr


@pytest.mark.parametrize("days", ["-1", "100000000000000000"])
def test_days_of_alerts_are_limited(days):
    result = CliRunner().invoke(main, ["alerts", "--days", days])
    assert result.exit_code == 2
    assert "Invalid value for '--days'" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["forward", "replay"], ["forward", "discard", "--yes"], ["share", "--revoke", "x"], ["prune"]],
)
def test_missing_database_is_named_and_not_created(arguments, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_KEEP_RAW_DAYS", "1")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "there is no database at data/retell.db" in result.stderr
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "url", ["http://[x/webhook", "http://h:99999/", "http://a b/", "h/webhook"]
)
@pytest.mark.parametrize(
    "arguments", [["webhook", "test"], ["webhook", "set", "--all"], ["send", __file__, "--url"]]
)
def test_invalid_urls_are_refused(arguments, url, monkeypatch):
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    result = CliRunner().invoke(main, [*arguments, url])
    assert (result.exit_code, "not a valid URL" in result.stderr) == (2, True)


@pytest.fixture
def environ(db_path):
    return environment(
        RETELL_API_KEY=KEY,
        RETELL_BASE_URL="http://127.0.0.1:9",
        CALLHOUSE_DATABASE_URL=f"sqlite:///{db_path}",
        CALLHOUSE_BIND="127.0.0.1:9",
    )


def run(arguments, environ, redirect="", **options):
    """A command as a shell starts it."""
    line = f'exec "$0" -m receiver "$@" {redirect}'
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *map(str, arguments)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )


# Commands that print and end by themselves, as they are typed.
PRINTING = {
    "help": ["--help"],
    "migrate": ["migrate"],
    "rebuild": ["rebuild"],
    "drift": ["drift"],
    "drift --json": ["drift", "--json"],
    "export": ["export", "disconnection_reasons"],
    "export ndjson": ["export", "disconnection_reasons", "--format", "ndjson"],
    "user add": ["user", "add", "ann", "--role", "masked"],
    "user list": ["user", "list"],
    "token add": ["token", "add", "t", "--role", "masked"],
    "token list": ["token", "list"],
    "send": ["send", PAYLOADS / "event-call_ended.json"],
    "webhook test": ["webhook", "test", URL],
    "show": ["show", "call_a"],
}


@pytest.fixture
def filled(db_path):
    from receiver.store import open_store, receive

    call = {"call_id": "call_a", "transcript": "Grüße ☎ 𝄞", "grüße": 1}
    body = json.dumps({"event": "call_ended", "call": call}).encode()
    store = open_store(db_path)
    store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTING)
def test_a_full_device_is_one_sentence(name, environ, filled):
    done = run(PRINTING[name], environ, "> /dev/full")
    assert done.returncode == 1, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTING)
def test_full_errors_end_without_a_traceback(name, environ, filled):
    done = run([*PRINTING[name], "--no-such-option"], environ, "2> /dev/full")
    assert done.returncode in (1, 2)
    done = run(PRINTING[name], environ, "2> /dev/full >&2")
    assert done.returncode in (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTING)
@pytest.mark.parametrize(
    "encoding", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "LANG": "C"}, {"LC_ALL": "POSIX"}]
)
def test_an_ascii_terminal_gets_escapes(name, environ, filled, encoding):
    done = run(PRINTING[name], environ | encoding)
    assert "Traceback" not in done.stderr
    assert done.returncode == (1 if name in ("send", "webhook test") else 0), done.stderr
    if name in ("show", "drift --json"):
        assert "gr" in str(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTING)
def test_closed_pipe_is_no_error(name, environ, filled):
    done = run(PRINTING[name], environ, "| true")
    assert done.stderr.count("\n") <= 2
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTING)
@pytest.mark.parametrize("redirect", ["<&-", ">&-"])
def test_closed_streams_cause_no_traceback(name, environ, filled, redirect):
    done = run(PRINTING[name], environ, redirect)
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 2)


def make(path: Path, what: str) -> Path:
    """Something that is not the file that is asked for."""
    if what == "missing":
        return path
    if what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path)
    elif what == "in a file":
        path.write_text("")
        return path / "inner"
    else:
        path.write_bytes({"empty": b"", "binary": bytes(range(256)) * 64, "text": b"hello\n"}[what])
    return path


KINDS = ("missing", "folder", "loop", "in a file", "empty", "binary", "text")
READING = {
    "send": ["send", "{}"],
    "call --csv": ["call", "--from", "+14155550100", "--csv", "{}"],
    "call --json": ["call", "--json", "{}"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", READING)
def test_invalid_input_file_is_refused(name, kind, environ, tmp_path, monkeypatch):
    path = make(tmp_path / "odd", kind)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(main, [a.format(path) for a in READING[name]])
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == (1 if name == "send" and kind not in
                                ("missing", "loop", "in a file") else 2), result.output  # fmt: skip


WITH_A_DATABASE = {
    "migrate": ["migrate"],
    "rebuild": ["rebuild"],
    "drift": ["drift"],
    "export": ["export", "calls"],
    "export all": ["export", "--to", "x.db"],
    "export days": ["export", "--parquet", "lake", "--partition", "day"],
    "show": ["show", "call_a"],
    "sync": ["sync"],
    "coverage": ["coverage"],
    "call": ["call", "+14155550123", "--from", "+14155550100"],
    "copy": ["copy", "--to", "sqlite:///other.db"],
    "user add": ["user", "add", "ann", "--role", "masked"],
    "token list": ["token", "list"],
    "mirror": ["mirror", "--once"],
    "distribute": ["distribute"],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", WITH_A_DATABASE)
def test_invalid_database_is_one_sentence(name, kind, environ, tmp_path, monkeypatch):
    path = make(tmp_path / "odd.db", kind)
    monkeypatch.setattr("receiver.retell.client.READ_ATTEMPTS", 1)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{path}")
    result = CliRunner().invoke(main, WITH_A_DATABASE[name])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if result.exit_code:
        assert "Error:" in result.stderr or "Usage:" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", WITH_A_DATABASE)
@pytest.mark.parametrize("path", ["/dev/null", "retell.secret"])
def test_foreign_database_is_refused_unchanged(name, path, environ, tmp_path):
    before = sorted(tmp_path.iterdir())
    done = run(WITH_A_DATABASE[name], environ | {"CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"})
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("Error: CALLHOUSE_DATABASE_URL is not valid: ")
    assert sorted(tmp_path.iterdir()) == before
    assert list(Path("/dev").glob("null*")) == [Path("/dev/null")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["copy", "--to", "sqlite:///retell.secret"],
        ["copy", "--to", "sqlite:////dev/null"],
        ["mirror", "--to", "retell.secret"],
        ["mirror", "--to", "/dev/null"],
    ],
    ids=" ".join,
)
def test_a_target_of_another_kind_is_refused(arguments, environ, monkeypatch):
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "Invalid value for '--to'" in result.stderr
    assert list(Path("/dev").glob("null*")) == [Path("/dev/null")]


@pytest.mark.parametrize("end", ["-wal", ".secret", ".access", ".counters", ".sessions", ".lock"])
def test_an_export_replaces_no_file_beside_the_database(end, environ, tmp_path, monkeypatch):
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    path = tmp_path / (f"retell{end}" if end in (".secret", ".access", ".counters", ".sessions")
                       else f"retell.db{end}")  # fmt: skip
    path.write_text("ours")
    arguments = ["export", "disconnection_reasons", "--format", "csv", "--to", str(path)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2, result.output
    assert "belongs to the database" in result.stderr
    assert path.read_text() == "ours"


WRITING = {
    "export": ["export", "calls", "--format", "csv", "--to", "{}"],
    "export sqlite": ["export", "calls", "--format", "sqlite", "--to", "{}"],
    "export parquet": ["export", "calls", "--format", "parquet", "--to", "{}"],
    "export all": ["export", "--format", "sqlite", "--to", "{}"],
    "export days": ["export", "--partition", "day", "--parquet", "{}"],
    "copy": ["copy", "--to", "sqlite:///{}"],
}


@pytest.mark.parametrize("kind", ["folder", "loop", "in a file", "no folder", "full"])
@pytest.mark.parametrize("name", WRITING)
def test_unwritable_target_is_one_sentence(name, kind, environ, tmp_path, monkeypatch):
    path = tmp_path / "none" / "odd" if kind == "no folder" else tmp_path / "odd"
    path = Path("/dev/full") if kind == "full" else path
    path = path if kind in ("no folder", "full") else make(path, kind)
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    result = CliRunner().invoke(main, [a.format(path) for a in WRITING[name]])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    if kind == "full" and name != "export days":
        assert result.exit_code == (2 if name == "copy" else 1), result.output
        assert "WHAT" not in result.output
    if result.exit_code:
        assert "Error:" in result.stderr or "Usage:" in result.stderr
    assert os.path.exists("/dev/full")
