"""Why a PostgreSQL server cannot be used: each reason has its sentence, hint and exit status."""

import re

import pytest
from click.testing import CliRunner

from receiver.cli import main
from tests.support import postgres
from tests.support.running import environment, free_address, mirror, wait_until

# The address after postgresql:// -> exit status, sentence, a part of the hint.
REASONS = {
    "wrong password": ("asked:hunter2@{tcp}/postgres", 2, "it refuses the password", "PGPASSFILE"),
    "no password": ("asked@{tcp}/postgres", 2, "requires a password, and there is none", "pgpass"),
    "no role": ("nobody@/postgres?{socket}", 2, "no role of this name", "LOGIN"),
    "no login": ("barred@/postgres?{socket}", 2, "no role of this name that may log in", "LOGIN"),
    "no line": ("callhouse@{tcp}/postgres", 2, "no line that allows this role", "sslmode"),
    "no database": ("callhouse@/none?{socket}", 2, "no database of this name", "Create the"),
    "no connecting": ("callhouse@/shut?{socket}", 2, "may not connect to the database", "GRANT"),
    "no TLS": ("asked@{tcp}/postgres?sslmode=require", 2, "it does not offer TLS", "sslmode"),
    "no host": ("asked:hunter2@none.invalid/x", 2, "no host of this name", "Correct the host"),
    "port": ("asked:hunter2@127.0.0.1:1/postgres", 1, "nothing listens there", "Start the server"),
    "socket": ("asked@/postgres?host=/none", 1, "nothing listens there", "Start the server"),
    "no port": ("asked:hunter2@127.0.0.1:99999/x", 2, "URL is not understood", "postgresql://"),
    "parameter": ("asked:hunter2@127.0.0.1/x?a=1", 2, "URL is not understood", "postgresql://"),
    "mode": ("asked:hunter2@127.0.0.1/x?sslmode=a", 2, "URL is not understood", "postgresql://"),
}


@pytest.fixture(scope="module")
def guarded():
    """A server that asks for passwords on TCP, and what the addresses need to reach it."""
    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: make test-system installs it")
    address = free_address()
    with postgres.cluster(port=int(address.rpartition(":")[2])) as server:
        (server.folder / "data/pg_hba.conf").write_text(
            "local all all trust\nhost all asked 127.0.0.1/32 scram-sha-256\n"
        )
        postgres.execute(
            server.url("postgres"),
            "CREATE ROLE asked LOGIN PASSWORD 'hunter1'",
            "CREATE ROLE barred",
            "CREATE DATABASE shut",
            "ALTER DATABASE shut ALLOW_CONNECTIONS false",
            "SELECT pg_reload_conf()",
        )
        yield {"tcp": address, "socket": server.url("postgres").url.partition("?")[2]}


@pytest.fixture
def run(guarded, monkeypatch):
    def run(address, *arguments):
        url = "postgresql://" + address.format(**guarded)
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url)
        monkeypatch.setenv("PGPASSFILE", "/none")
        return CliRunner().invoke(main, arguments)

    return run


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_its_sentence(reason, run):
    address, status, what, hint = REASONS[reason]
    for command in (["migrate"], ["export", "calls"], ["show", "c"]):
        result = run(address, *command)
        assert result.exit_code == status, (result.output, result.exception)
        first, second = result.stderr.splitlines()
        assert re.match(r"Error: no connection to the server: ", first)
        assert what in first
        assert hint in second
        assert "hunter" not in result.output


def test_a_target_that_refuses_is_named(run, guarded, db_path, monkeypatch):
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{db_path}")
    url = "postgresql://" + REASONS["wrong password"][0].format(**guarded)
    result = CliRunner().invoke(main, ["copy", "--to", url])
    assert result.exit_code == 2, result.output
    assert "it refuses the password" in result.stderr


def test_right_password_is_accepted(run):
    result = run("asked:hunter1@{tcp}/postgres", "show", "c")
    assert "there are no tables of this version" in result.stderr


@pytest.mark.slow
def test_a_mirror_outlives_a_server_that_refuses_it(pg, tmp_path):
    name = postgres.name_of(pg)
    admin = type(pg)(pg.url.replace(name, "postgres"))
    with mirror(environment(CALLHOUSE_DATABASE_URL=pg.url), tmp_path) as running:
        postgres.execute(admin, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        wait_until(lambda: "may not connect to the database" in running.output())
        postgres.execute(admin, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        wait_until(lambda: "Reconnected; mirroring resumed." in running.output())
