"""Environment and .env file -> settings: strict, once, and closed when something is wrong."""

import dataclasses
import os
import socket
from pathlib import Path

import pytest

from receiver import config
from receiver.addresses import Bind, require_free
from receiver.config_file import ConfigFile
from receiver.errors import SettingsError
from receiver.webhook.signature import key_id

# Its empty value has a meaning.
MEDIA_URL = "CALLHOUSE_MEDIA_URL"
HASH = "pbkdf2_sha256$480000${SALT}$" + "q" * 43 + "="


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
    assert settings.media.location == Path("data/media")
    assert not settings.media.allow_private
    assert settings.timezone == "UTC"


def test_every_setting_is_read_from_its_variable():
    settings = config.load(
        {
            "RETELL_API_KEY": "key_a",
            "RETELL_WEBHOOK_KEYS": "key_b",
            "RETELL_API_KEY_ACME": "key_c",
            "RETELL_WEBHOOK_KEYS_ACME": "key_d",
            "RETELL_BASE_URL": "http://127.0.0.1:9/",
            "CALLHOUSE_DATABASE_URL": "sqlite:////var/lib/calls.db",
            "CALLHOUSE_BIND": "0.0.0.0:80",
            "CALLHOUSE_HEALTH_BIND": "10.0.0.1:9000",
            "CALLHOUSE_BROWSE_BIND": "[::1]:81",
            "CALLHOUSE_WORKERS": "3",
            "CALLHOUSE_CONNECTIONS": "5",
            "CALLHOUSE_MAX_BODY_BYTES": "1000",
            "CALLHOUSE_SIGNATURE_TOLERANCE_SECONDS": "60",
            "CALLHOUSE_BROWSE_PASSWORD": "open sesame",
            "CALLHOUSE_BROWSE_PASSWORD_HASH": HASH,
            "CALLHOUSE_SECRET": "s3cret",
            "CALLHOUSE_MEDIA_URL": "s3://bucket/of/calls/",
            "CALLHOUSE_MEDIA_MAX_BYTES": "1",
            "CALLHOUSE_MEDIA_RESERVE_BYTES": "2",
            "CALLHOUSE_MEDIA_BYTES_PER_SECOND": "3",
            "CALLHOUSE_MEDIA_DOWNLOADS": "4",
            "CALLHOUSE_MEDIA_ALLOW_PRIVATE": "1",
            "CALLHOUSE_KEEP_RAW_DAYS": "5",
            "CALLHOUSE_KEEP_RECORDINGS_DAYS": "6",
            "CALLHOUSE_KEEP_TRANSCRIPTS_DAYS": "7",
            "CALLHOUSE_KEEP_PERSONAL_DAYS": "8",
            "CALLHOUSE_KEEP_CALLS_DAYS": "9",
            "CALLHOUSE_TIMEZONE": "Europe/Berlin",
        }
    )
    assert dataclasses.astuple(settings) == (
        (("default", "key_a", ("key_a", "key_b")), ("acme", "key_c", ("key_c", "key_d"))),
        "http://127.0.0.1:9",
        Path("/var/lib/calls.db"),
        ("0.0.0.0", 80),
        ("10.0.0.1", 9000),
        ("::1", 81),
        3,
        5,
        1000,
        60_000,
        "open sesame",
        HASH,
        "s3cret",
        (("bucket", "of/calls"), 1, 2, 3, 4, True),
        {"raw": 5, "recordings": 6, "transcripts": 7, "personal": 8, "all": 9},
        "Europe/Berlin",
        Path("callhouse.toml"),
        dataclasses.astuple(ConfigFile()),
    )


def test_empty_media_url_keeps_no_recordings():
    assert config.load({"CALLHOUSE_MEDIA_URL": " "}).media.location is None


def test_media_url_of_a_directory_may_be_absolute():
    for url in ("file:/var/lib/media", "file:///var/lib/media"):
        assert config.load({"CALLHOUSE_MEDIA_URL": url}).media.location == Path("/var/lib/media")


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.load({}).workers = 2


def test_every_setting_has_a_sentence():
    assert all(setting.meaning.endswith(".") for setting in config.SETTINGS)
    assert len({setting.name for setting in config.SETTINGS}) == len(config.SETTINGS) == 29


def test_keys_are_stripped_deduplicated_with_api_key_first():
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
        ("RETELL_APIKEY", "RETELL_API_KEY"),
        ("RETELL_KEY", "RETELL_API_KEY"),
        ("RETELL_WEBHOOK_KEY", "RETELL_WEBHOOK_KEYS"),
        ("RETELL_URL", "RETELL_BASE_URL"),
    ],
)
def test_unknown_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(SettingsError, match=f"^{name} is not a setting$") as caught:
        config.load({name: "1"})
    assert caught.value.hint == f"Did you mean {nearest}?"


def test_variables_of_other_programs_are_ignored():
    assert config.load(
        {"RETELLING": "1", "RETELL_LOG": "debug", "PATH": "/bin", "callhouse_x": "1"}
    )


def of_kubernetes(service, *, host="10.0.171.239", port=8000, name="http", proto="tcp"):
    """What the kubelet sets for a service, as its source makes the names."""
    prefix = service.upper().replace("-", "_")
    one = f"{prefix}_PORT_{port}_{proto.upper()}"
    return {
        f"{prefix}_SERVICE_HOST": host,
        f"{prefix}_SERVICE_PORT": str(port),
        f"{prefix}_SERVICE_PORT_{name.upper().replace('-', '_')}": str(port),
        f"{prefix}_PORT": f"{proto}://{host}:{port}",
        one: f"{proto}://{host}:{port}",
        f"{one}_PROTO": proto,
        f"{one}_PORT": str(port),
        f"{one}_ADDR": host,
    }


@pytest.mark.parametrize("service", ["callhouse", "callhouse-browse", "callhouse-2-db", "retell"])
def test_variables_of_kubernetes_services_are_ignored(service):
    assert config.load(of_kubernetes(service)) == config.load({})
    assert config.load(of_kubernetes(service, host="fd00::1", proto="sctp", name="web-tls"))


def test_all_services_of_a_namespace_are_ignored_together():
    services = ("callhouse", "callhouse-browse", "retell-sandbox")
    values = {k: v for service in services for k, v in of_kubernetes(service).items()}
    assert config.load(values | {"CALLHOUSE_WORKERS": "3"}).workers == 3


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"CALLHOUSE_PORT": "8000"}, "CALLHOUSE_PORT"),
        ({"CALLHOUSE_PORT": "tcp://10.0.0.1:8000"}, "CALLHOUSE_PORT"),
        ({"CALLHOUSE_SERVICE_HOST": "example"}, "CALLHOUSE_SERVICE_HOST"),
        (of_kubernetes("callhouse") | {"CALLHOUSE_WORKER": "2"}, "CALLHOUSE_WORKER"),
        (of_kubernetes("callhouse") | {"CALLHOUSE_PORTS": "2"}, "CALLHOUSE_PORTS"),
        (of_kubernetes("callhouse") | {"CALLHOUSE_BROWSE_PORT": "2"}, "CALLHOUSE_BROWSE_PORT"),
        (of_kubernetes("retell") | {"RETELL_APIKEY": "2"}, "RETELL_APIKEY"),
    ],
)
def test_misspelt_names_are_refused_beside_kubernetes(values, refused):
    with pytest.raises(SettingsError, match=f"^{refused} is not a setting$"):
        config.load(values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CALLHOUSE_DATABASE_URL", "data/retell.db"),
        ("CALLHOUSE_DATABASE_URL", "sqlite:///"),
        ("CALLHOUSE_DATABASE_URL", "mysql://localhost/calls"),
        ("CALLHOUSE_BIND", "8000"),
        ("CALLHOUSE_HEALTH_BIND", "9000"),
        ("CALLHOUSE_HEALTH_BIND", "10.0.0.1:8000"),
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
        ("RETELL_BASE_URL", "api.retellai.com"),
        ("RETELL_BASE_URL", "https://"),
        ("RETELL_BASE_URL", "ftp://api.retellai.com"),
        ("RETELL_BASE_URL", "https://api.retellai.com:port"),
        ("RETELL_BASE_URL", "https://api.retellai.com:99999"),
        ("RETELL_BASE_URL", "https://api retellai.com"),
        ("RETELL_BASE_URL", "https://[::1"),
        ("RETELL_BASE_URL", "https://user:secret@api.retellai.com"),
        ("RETELL_BASE_URL", "https://api.retellai.com?key=1"),
        ("CALLHOUSE_BROWSE_PASSWORD_HASH", "open sesame"),
        ("CALLHOUSE_BROWSE_PASSWORD_HASH", "pbkdf2_sha256$many$a$" + "q" * 43 + "="),
        ("CALLHOUSE_BROWSE_PASSWORD_HASH", "bcrypt$1$a$" + "q" * 43 + "="),
        ("CALLHOUSE_BROWSE_PASSWORD_HASH", HASH[:-2]),
        ("CALLHOUSE_KEEP_RAW_DAYS", "0"),
        ("CALLHOUSE_KEEP_CALLS_DAYS", "1.5"),
        ("CALLHOUSE_MEDIA_URL", "data/media"),
        ("CALLHOUSE_MEDIA_URL", "file://host/media"),
        ("CALLHOUSE_MEDIA_URL", "s3://"),
        ("CALLHOUSE_MEDIA_MAX_BYTES", "0"),
        ("CALLHOUSE_MEDIA_DOWNLOADS", "65"),
        ("CALLHOUSE_MEDIA_ALLOW_PRIVATE", "yes"),
        ("CALLHOUSE_TIMEZONE", "Berlin"),
        ("CALLHOUSE_TIMEZONE", "Europe"),
        ("CALLHOUSE_TIMEZONE", "../etc/localtime"),
        ("CALLHOUSE_TIMEZONE", "/etc/localtime"),
        ("CALLHOUSE_TIMEZONE", "a\0b"),
    ],
)
def test_unusable_value_is_refused_by_its_name(name, value):
    with pytest.raises(SettingsError, match=f"^{name} is not valid: it must be "):
        config.load({name: value})


@pytest.mark.parametrize("name", ["CALLHOUSE_DATABASE_URL", "CALLHOUSE_BIND", "CALLHOUSE_WORKERS"])
def test_refusal_does_not_repeat_the_value(name):
    with pytest.raises(SettingsError) as caught:
        config.load({name: "mysql://calls:hunter2@db"})
    assert "hunter2" not in str(caught.value) + caught.value.hint
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["RETELL_API_KEY", "RETELL_WEBHOOK_KEYS", "CALLHOUSE_SECRET"])
def test_value_that_is_not_utf_8_is_refused(name):
    # As Python hands over the byte FF of an environment variable.
    with pytest.raises(SettingsError, match=f"^{name} is not UTF-8$"):
        config.load({name: "key_\udcff"})


@pytest.mark.parametrize("name", [s.name for s in config.SETTINGS if s.name != MEDIA_URL])
def test_empty_value_is_the_default(name):
    assert config.load({name: " "}) == config.load({})


def test_port_wins_for_both_addresses():
    environ = {"PORT": "5000", "CALLHOUSE_BIND": "[::]:80", "CALLHOUSE_BROWSE_BIND": "10.0.0.1:81"}
    settings = config.load(environ)
    assert (str(settings.bind), str(settings.browse_bind)) == ("[::]:5000", "10.0.0.1:5000")


@pytest.mark.parametrize("port", ["http", "-1", "65536", "80 81"])
def test_port_that_is_no_port_is_refused(port):
    with pytest.raises(SettingsError, match=r"^PORT is not valid"):
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
def test_loopback_differs_from_public_addresses(host, is_loopback):
    assert Bind(host, 1).is_loopback is is_loopback


def test_host_that_resembles_loopback_is_public():
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


def test_env_file_keeps_dollars_and_quotes(tmp_path):
    (tmp_path / ".env").write_text(f"CALLHOUSE_BROWSE_PASSWORD_HASH='{HASH}'\n")
    assert config.load({}).browse_password_hash == HASH


def test_env_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / ".env").write_bytes(b"CALLHOUSE_SECRET=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env"):
        config.load({})


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("RETELL_API_KEY key_secret\n", 1),
        ("RETELL_API_KEY: key_secret\n", 1),
        ("# one\n\n\nCALLHOUSE_SECRET='key_secret\n", 4),
        ("A=1\r\nexport RETELL_API_KEY key_secret\r\n", 2),
        ("A=1\n=key_secret\n", 2),
        ("A=1\nRETELL_API_KEY='key_secret' more\nB=2\n", 2),
        ("RETELL_API_KEY\n", 1),
    ],
)
def test_env_file_error_names_its_line(tmp_path, text, line):
    (tmp_path / ".env").write_bytes(text.encode())
    with pytest.raises(SettingsError, match=rf"^\.env, line {line}, is not NAME=value$") as caught:
        config.load({})
    assert "key_secret" not in str(caught.value) + caught.value.hint


def test_env_file_keeps_comments_quotes_and_exports(tmp_path):
    text = '\n# one\nexport RETELL_API_KEY=key_a # mine\n\nCALLHOUSE_SECRET="a\\nb # c"\nX=\n'
    (tmp_path / ".env").write_text(text)
    settings = config.load({})
    assert (settings.require_api_key(), settings.secret) == ("key_a", "a\nb # c")


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to(path)])
def test_env_file_that_cannot_be_read_is_refused(tmp_path, make):
    make(tmp_path / ".env")
    with pytest.raises(SettingsError, match=r"^\.env cannot be read: "):
        config.load({})


def test_free_address_is_accepted_and_taken_one_refused():
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


def test_account_is_named_by_its_setting():
    keys = {"RETELL_API_KEY_NORTH_WEST": "key_a", "RETELL_WEBHOOK_KEYS_ACME": "key_b,key_c"}
    settings = config.load(keys)
    assert [dataclasses.astuple(a) for a in settings.accounts] == [
        ("acme", None, ("key_b", "key_c")),
        ("north_west", "key_a", ("key_a",)),
    ]
    assert settings.webhook_keys == ("key_b", "key_c", "key_a")
    assert settings.account_keys[key_id("key_c")] == "acme"
    assert settings.require_api_key() == settings.require_api_key("north_west") == "key_a"
    with pytest.raises(SettingsError, match="no account acme"):
        settings.require_api_key("acme")


def test_several_accounts_need_a_name():
    settings = config.load({"RETELL_API_KEY": "key_a", "RETELL_API_KEY_ACME": "key_b"})
    assert [account.name for account in settings.require_accounts()] == ["default", "acme"]
    with pytest.raises(SettingsError) as caught:
        settings.require_api_key()
    assert "--account: default, acme" in caught.value.hint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"RETELL_API_KEY": "key_a", "RETELL_API_KEY_ACME": "key_a"}, "have the same key"),
        ({"RETELL_API_KEY_DEFAULT": "key_a"}, "RETELL_API_KEY is the account `default`"),
        ({"RETELL_API_KEY_acme": "key_a"}, "RETELL_API_KEY_acme is not a setting"),
        ({"RETELL_API_KEY_ACME": "key_\udc80"}, "RETELL_API_KEY_ACME is not UTF-8"),
    ],
)
def test_wrong_accounts_are_refused(values, message):
    with pytest.raises(SettingsError, match=message):
        config.load(values)


def test_api_key_is_never_a_further_webhook_key():
    settings = config.load({"RETELL_API_KEY": " key_a ", "RETELL_WEBHOOK_KEYS": "key_b"})
    assert settings.require_api_key() == "key_a"
    with pytest.raises(SettingsError, match="RETELL_API_KEY is not set"):
        config.load({"RETELL_WEBHOOK_KEYS": "key_b"}).require_api_key()


@pytest.mark.parametrize("end", [
    "-wal", "-shm", "-journal", ".lock", ".turn", ".partitions",
    ".counters", ".secret", ".access", ".sessions",
])  # fmt: skip
def test_sidecar_file_name_is_refused(end, tmp_path):
    for name in (f"retell{end}", f"retell.db{end}"):
        with pytest.raises(SettingsError, match=f"CALLHOUSE_DATABASE_URL .* end in {end},"):
            config.load({"CALLHOUSE_DATABASE_URL": f"sqlite:///{tmp_path}/{name}"})


@pytest.mark.parametrize("kind", ["folder", "device", "pipe", "link to a device"])
def test_database_that_is_no_regular_file_is_refused(kind, tmp_path):
    path = Path("/dev/null") if kind == "device" else tmp_path / "odd"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a device":
        path.symlink_to("/dev/null")
    with pytest.raises(SettingsError, match="it must be a regular file"):
        config.load({"CALLHOUSE_DATABASE_URL": f"sqlite:///{path}"})
