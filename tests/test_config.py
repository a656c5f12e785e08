"""Environment and .env file -> settings: strict, once, and closed when something is wrong."""

import dataclasses
import socket
from pathlib import Path

import pytest

from receiver import config
from receiver.addresses import Bind, require_free
from receiver.errors import SettingsError


def test_empty_environment_gives_the_documented_defaults():
    settings = config.load({})
    assert settings.webhook_keys == ()
    assert settings.base_url == "https://api.retellai.com"
    assert settings.database_path == Path("data/retell.db")
    assert settings.bind == Bind("127.0.0.1", 8000)
    assert settings.browse_bind == Bind("127.0.0.1", 8001)
    assert settings.workers >= 1
    assert settings.max_body_bytes == 16 * 1024 * 1024
    assert settings.signature_tolerance_ms == 300_000
    assert settings.browse_password is None
    assert settings.browse_password_hash is None
    assert settings.secret is None
    assert settings.timezone == "UTC"


def test_every_setting_is_read_from_its_variable():
    settings = config.load(
        {
            "RETELL_API_KEY": "key_a",
            "RETELL_WEBHOOK_KEYS": "key_b",
            "RETELL_BASE_URL": "http://127.0.0.1:9/",
            "CALLHOUSE_DATABASE_URL": "sqlite:////var/lib/calls.db",
            "CALLHOUSE_BIND": "0.0.0.0:80",
            "CALLHOUSE_BROWSE_BIND": "[::1]:81",
            "CALLHOUSE_WORKERS": "3",
            "CALLHOUSE_MAX_BODY_BYTES": "1000",
            "CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS": "60",
            "CALLHOUSE_BROWSE_PASSWORD": "open sesame",
            "CALLHOUSE_BROWSE_PASSWORD_HASH": "pbkdf2_sha256$1$a$b",
            "CALLHOUSE_SECRET": "s3cret",
            "CALLHOUSE_TIMEZONE": "Europe/Berlin",
        }
    )
    assert dataclasses.astuple(settings) == (
        "key_a",
        ("key_a", "key_b"),
        "http://127.0.0.1:9",
        Path("/var/lib/calls.db"),
        ("0.0.0.0", 80),
        ("::1", 81),
        3,
        1000,
        60_000,
        "open sesame",
        "pbkdf2_sha256$1$a$b",
        "s3cret",
        "Europe/Berlin",
    )


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.load({}).workers = 2


def test_every_setting_has_a_sentence():
    assert all(setting.meaning.endswith(".") for setting in config.SETTINGS)
    assert len({setting.name for setting in config.SETTINGS}) == len(config.SETTINGS) == 13


def test_keys_are_stripped_deduplicated_and_the_api_key_comes_first():
    keys = {"RETELL_API_KEY": " key_a\n", "RETELL_WEBHOOK_KEYS": " key_b ,,key_a, key_c,"}
    assert config.load(keys).webhook_keys == ("key_a", "key_b", "key_c")


@pytest.mark.parametrize(
    "environ", [{}, {"RETELL_API_KEY": ""}, {"RETELL_API_KEY": "  ", "RETELL_WEBHOOK_KEYS": ", ,"}]
)
def test_missing_key_is_refused_where_one_is_needed(environ):
    with pytest.raises(SettingsError, match="RETELL_API_KEY is not set") as caught:
        config.load(environ).require_keys()
    assert "webhook badge" in caught.value.hint


def test_webhook_keys_alone_are_keys():
    assert config.load({"RETELL_WEBHOOK_KEYS": "key_b"}).require_keys() == ("key_b",)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("CALLHOUSE_DATABASE", "CALLHOUSE_DATABASE_URL"),
        ("CALLHOUSE_DATABSE_URL", "CALLHOUSE_DATABASE_URL"),
        ("CALLHOUSE_MAX_BODY", "CALLHOUSE_MAX_BODY_BYTES"),
        ("CALLHOUSE_WORKER", "CALLHOUSE_WORKERS"),
        ("CALLHOUSE_TZ", "CALLHOUSE_TIMEZONE"),
        ("CALLHOUSE_BROWSE_PASWORD", "CALLHOUSE_BROWSE_PASSWORD"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(SettingsError, match=f"^{name} is not a setting$") as caught:
        config.load({name: "1"})
    assert caught.value.hint == f"Did you mean {nearest}?"


def test_names_of_others_are_none_of_our_business():
    assert config.load({"RETELL_ANYTHING": "1", "PATH": "/bin", "callhouse_x": "1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CALLHOUSE_DATABASE_URL", "data/retell.db"),
        ("CALLHOUSE_DATABASE_URL", "sqlite:///"),
        ("CALLHOUSE_DATABASE_URL", "mysql://localhost/calls"),
        ("CALLHOUSE_BIND", "8000"),
        ("CALLHOUSE_BIND", "localhost"),
        ("CALLHOUSE_BIND", "localhost:"),
        ("CALLHOUSE_BIND", ":8000"),
        ("CALLHOUSE_BIND", "::1:8000"),
        ("CALLHOUSE_BIND", "localhost:65536"),
        ("CALLHOUSE_BIND", "localhost:http"),
        ("CALLHOUSE_BROWSE_BIND", "local host:1"),
        ("CALLHOUSE_WORKERS", "0"),
        ("CALLHOUSE_WORKERS", "-1"),
        ("CALLHOUSE_WORKERS", "two"),
        ("CALLHOUSE_MAX_BODY_BYTES", "16 MiB"),
        ("CALLHOUSE_MAX_BODY_BYTES", "1e6"),
        ("CALLHOUSE_MAX_BODY_BYTES", "1" * 5000),
        ("CALLHOUSE_MAX_BODY_BYTES", "١٢"),
        ("CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS", "0"),
        ("CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS", "2.5"),
        ("CALLHOUSE_TIMEZONE", "Berlin"),
        ("CALLHOUSE_TIMEZONE", "Europe"),
        ("CALLHOUSE_TIMEZONE", "../etc/localtime"),
        ("CALLHOUSE_TIMEZONE", "/etc/localtime"),
        ("CALLHOUSE_TIMEZONE", "a\0b"),
    ],
)
def test_unusable_value_is_refused_by_its_name(name, value):
    with pytest.raises(SettingsError, match=f"^{name} is not usable: it must be "):
        config.load({name: value})


@pytest.mark.parametrize("name", ["CALLHOUSE_DATABASE_URL", "CALLHOUSE_BIND", "CALLHOUSE_WORKERS"])
def test_refusal_does_not_repeat_the_value(name):
    with pytest.raises(SettingsError) as caught:
        config.load({name: "mysql://calls:hunter2@db"})
    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["RETELL_API_KEY", "RETELL_WEBHOOK_KEYS", "CALLHOUSE_SECRET"])
def test_value_that_is_not_utf_8_is_refused_at_the_start(name):
    # As Python hands over the byte FF of an environment variable.
    with pytest.raises(SettingsError, match=f"^{name} is not UTF-8$"):
        config.load({name: "key_\udcff"})


@pytest.mark.parametrize("name", [setting.name for setting in config.SETTINGS])
def test_empty_value_is_the_default(name):
    assert config.load({name: " "}) == config.load({})


def test_port_wins_for_both_addresses():
    environ = {"PORT": "5000", "CALLHOUSE_BIND": "[::]:80", "CALLHOUSE_BROWSE_BIND": "10.0.0.1:81"}
    settings = config.load(environ)
    assert (str(settings.bind), str(settings.browse_bind)) == ("[::]:5000", "10.0.0.1:5000")


@pytest.mark.parametrize("port", ["http", "-1", "65536", "80 81"])
def test_port_that_is_no_port_is_refused(port):
    with pytest.raises(SettingsError, match=r"^PORT is not usable"):
        config.load({"PORT": port})


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("localhost.example.com", False),
    ],
)
def test_loopback_is_told_from_the_world(host, is_loopback):
    assert Bind(host, 1).is_loopback is is_loopback


def test_host_that_only_looks_like_loopback_is_the_world():
    assert not Bind("127.example.com", 1).is_loopback


def test_environment_wins_over_the_env_file(tmp_path):
    (tmp_path / ".env").write_text("CALLHOUSE_WORKERS=2\nCALLHOUSE_MAX_BODY_BYTES=1000\n")
    settings = config.load({"CALLHOUSE_WORKERS": "4"})
    assert (settings.workers, settings.max_body_bytes) == (4, 1000)


def test_process_environment_is_read_when_none_is_given(monkeypatch):
    monkeypatch.setenv("RETELL_API_KEY", "key_process")
    assert config.load().webhook_keys == ("key_process",)


def test_env_file_is_as_strict_as_the_environment(tmp_path):
    (tmp_path / ".env").write_text("CALLHOUSE_WORKER=2\n")
    with pytest.raises(SettingsError, match="CALLHOUSE_WORKER is not a setting"):
        config.load({})


def test_env_file_keeps_dollars_and_quotes_of_a_hash(tmp_path):
    line = "CALLHOUSE_BROWSE_PASSWORD_HASH='pbkdf2_sha256$480000$f1${SALT}$q='\n"
    (tmp_path / ".env").write_text(line)
    assert config.load({}).browse_password_hash == "pbkdf2_sha256$480000$f1${SALT}$q="


def test_env_file_that_is_not_utf_8_is_refused(tmp_path):
    (tmp_path / ".env").write_bytes(b"CALLHOUSE_SECRET=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env"):
        config.load({})


def test_free_address_is_accepted_and_a_taken_one_refused():
    with socket.create_server(("127.0.0.1", 0)) as server:
        bind = Bind("127.0.0.1", server.getsockname()[1])
        with pytest.raises(SettingsError, match=f"cannot listen on {bind}") as caught:
            require_free(bind, "CALLHOUSE_BIND")
        assert "set CALLHOUSE_BIND" in caught.value.hint
    require_free(bind, "CALLHOUSE_BIND")


def test_address_of_another_machine_is_refused():
    with pytest.raises(SettingsError, match=r"cannot listen on 192\.0\.2\.1:8000"):
        require_free(Bind("192.0.2.1", 8000), "CALLHOUSE_BIND")


@pytest.mark.parametrize("name", ["gunicorn.conf.py", "datasette_metadata.json"])
def test_shipped_files_are_found(name):
    assert config.shipped(name).name == name


def test_the_api_key_is_the_accounts_own_never_a_further_webhook_key():
    settings = config.load({"RETELL_API_KEY": " key_a ", "RETELL_WEBHOOK_KEYS": "key_b"})
    assert settings.require_api_key() == "key_a"
    with pytest.raises(SettingsError, match="RETELL_API_KEY is not set"):
        config.load({"RETELL_WEBHOOK_KEYS": "key_b"}).require_api_key()
