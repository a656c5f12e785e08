"""Users and tokens by the command line: made, listed, removed, and kept as hashes."""

import json
import stat

import pytest
from click.testing import CliRunner

from receiver.browse import access
from receiver.cli import main
from receiver.errors import SettingsError

# The file of users lies beside a file of calls.
pytestmark = pytest.mark.sqlite


@pytest.fixture
def run(monkeypatch, db_path):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{db_path}")
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args])


def test_user_without_terminal_gets_generated_password(run, db_path):
    result = run("user", "add", "jane", "--role", "reader")
    assert result.exit_code == 0
    password = result.output.split("Password: ")[1].strip()
    path = access.path_beside(db_path)
    who = access.Access(path, admin_password_hash=None)
    assert who.log_in("jane", password) == {
        "id": "jane",
        "session": who.known.session("jane", who.known.users["jane"].password_hash),
    }
    assert password not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_token_is_shown_once_and_stored_hashed(run, db_path):
    token = run("token", "add", "sheet", "--role", "masked").output.strip()
    path = access.path_beside(db_path)
    assert token.startswith("callhouse_")
    assert token not in path.read_text()
    who = access.Access(path, admin_password_hash=None)
    assert who.role(who.actor_of_token(token)) == "masked"
    assert run("token", "list").output.splitlines()[1].split()[:2] == ["sheet", "masked"]
    assert run("token", "add", "sheet", "--role", "reader").exit_code == 2
    assert run("token", "remove", "sheet").exit_code == 0
    assert who.actor_of_token(token) is None
    assert run("token", "remove", "sheet").exit_code == 2


def test_users_are_listed_and_removed(run):
    assert "No users" in run("user", "list").output
    run("user", "add", "max", "--role", "masked")
    assert "no personal data" in run("user", "list").output
    assert run("user", "remove", "max").exit_code == 0
    assert run("user", "remove", "max").exit_code == 2


@pytest.mark.parametrize("name", ["admin", "", "Jane Doe", "token:x", "../x", "a" * 65])
def test_some_names_are_refused(run, name):
    assert run("user", "add", name, "--role", "reader").exit_code == 2


def test_every_command_has_help_with_example():
    for group in ("user", "token"):
        for name, command in main.commands[group].commands.items():
            text = CliRunner().invoke(main, [group, name, "--help"]).output
            assert f"callhouse {group} {name}" in text.split("Example", 1)[1]
            assert command.get_short_help_str()


def test_damaged_access_file_lets_nobody_in(db_path):
    path = access.path_beside(db_path)
    for text in ("", "{", "[]", '{"users": {"jane": {}}, "tokens": {}}'):
        path.write_text(text)
        with pytest.raises(SettingsError, match="damaged"):
            access.Access(path, admin_password_hash=None).role({"id": "jane"})


def test_limits_are_stored_and_listed(run, db_path):
    wanted = ("--metadata", "client=acme", "--metadata", "client=o'neill", "--agent", "agent_1")
    added = run("user", "add", "acme", "--role", "reader", *wanted)
    expected = "agent agent_1, metadata client=acme, metadata client=o'neill"
    assert f"Only calls of: {expected}." in added.output
    assert f"only {expected}" in run("user", "list").output
    run("token", "add", "sheet", "--role", "masked", "--account", "berlin")
    assert "no personal data, only account berlin" in run("token", "list").output
    known = access.load(access.path_beside(db_path))
    assert known.users["acme"].limits.metadata == (("client", "acme"), ("client", "o'neill"))
    assert known.tokens["sheet"].limits.accounts == ("berlin",)


@pytest.mark.parametrize("metadata", ["client", "=acme", "client=", "cli\0ent=acme"])
def test_incomplete_limits_are_refused(run, metadata):
    assert run("user", "add", "x", "--role", "reader", "--metadata", metadata).exit_code == 2
    assert "No users" in run("user", "list").output


@pytest.mark.parametrize("role", ["admin", "reviewer"])
def test_roles_that_write_take_no_limits(run, role):
    assert run("user", "add", "x", "--role", role, "--agent", "agent_1").exit_code == 2
    assert run("token", "add", "x", "--role", role, "--agent", "agent_1").exit_code == 2


def test_access_file_without_limits_suits_older_versions(run, db_path):
    run("user", "add", "max", "--role", "masked")
    stored = json.loads(access.path_beside(db_path).read_text())
    assert set(stored) == {"users", "tokens"}
    assert set(stored["users"]["max"]) == {"role", "password_hash"}


def test_unknown_user_cannot_be_logged_out(run):
    assert run("user", "logout", "max").exit_code == 2
    run("user", "add", "max", "--role", "masked")
    assert run("user", "logout", "max").output == "Ended all sessions of max.\n"
    assert run("user", "logout", "admin").exit_code == 0
