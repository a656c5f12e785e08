"""Fixtures shared by all stages: few, literal, on real databases.

`pytest --engine postgres` runs the tests with the fixture `engine`, on PostgreSQL. It leaves out
the others: without a database they would repeat themselves, `db_path` is a SQLite file, and tests
with `postgres` or `pg` have a server in every run. The mark `sqlite` leaves out more.
"""

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import sqlite_utils
import trustme
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from receiver import config
from receiver.store import migrate, open_store
from receiver.store.connection import sqlite3
from tests.support import viewing
from tests.support.browsing import CHROMIUM
from tests.support.engines import Files, Server, url_of
from tests.support.running import is_setting
from tests.support.webhooks import KEY, NOW_MS

# Fixtures of a whole run or module that take seconds: a browser, a server.
COSTLY = ("chromium", "everything", "postgres")


def pytest_addoption(parser):
    parser.addoption(
        "--engine",
        choices=("sqlite", "postgres"),
        default="sqlite",
        help="whose databases the tests have; on postgres, only those that have one run",
    )


def pytest_configure(config):
    # A busy machine must not fail a test; a new database on a server takes longer.
    hypothesis_settings.register_profile(
        "any machine",
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        max_examples=100 if config.getoption("engine") == "sqlite" else 30,
    )
    hypothesis_settings.load_profile("any machine")
    # If this process is started in the background, it ignores Ctrl-C, and so would every command
    # that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Each client of httpx reads the certificates of all authorities, 60 ms of a processor, which
    # none of the servers here has anything to do with.
    folder = tempfile.TemporaryDirectory()
    config.add_cleanup(folder.cleanup)
    os.environ["SSL_CERT_FILE"] = f"{folder.name}/authority.pem"
    trustme.CA().cert_pem.write_to_path(os.environ["SSL_CERT_FILE"])
    from tests.support import canaries

    config.pluginmanager.register(canaries)


def pytest_generate_tests(metafunc):
    if "dialect" in metafunc.fixturenames:
        engine = Files if metafunc.config.getoption("engine") == "sqlite" else Server
        metafunc.parametrize("dialect", engine.dialects)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    # An idle process takes tests from the end of another one's share, so tests with a slow setup
    # come first and stay in one process.
    items.sort(key=lambda item: [name not in item.fixturenames for name in COSTLY])
    if config.getoption("engine") == "sqlite":
        return
    for item in items:
        if item.get_closest_marker("slow_on_postgres"):
            item.add_marker("slow")
    config.hook.pytest_deselected(items=[i for i in items if not _is_of_every_engine(i)])
    items[:] = [item for item in items if _is_of_every_engine(item)]


def pytest_terminal_summary(terminalreporter, config):
    reasons = {report.longrepr[2] for report in terminalreporter.stats.get("skipped", [])}
    if config.getoption("engine") == "postgres":
        for reason in sorted(reasons):
            terminalreporter.line(reason)


def _is_of_every_engine(item) -> bool:
    wanted = item.fixturenames
    return (
        "engine" in wanted
        and not {"db_path", "postgres"} & set(wanted)
        and item.get_closest_marker("sqlite") is None
    )


def pytest_report_header(config):
    engine = config.getoption("engine")
    return f"engine {engine}, SQLite {sqlite3.sqlite_version}, sqlite-utils {sqlite_utils.__file__}"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch, tmp_path):
    """Hide the settings and the .env file of the user who runs the tests."""
    for name in filter(is_setting, list(os.environ)):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def new_database(tmp_path_factory) -> Path:
    """Migrated once; each test copies it."""
    path = tmp_path_factory.mktemp("new") / "retell.db"
    migrate(path, timezone="UTC")
    return path


@pytest.fixture
def db_path(tmp_path, new_database) -> Path:
    return shutil.copy(new_database, tmp_path / "retell.db")


@pytest.fixture(scope="session")
def postgres():
    """The PostgreSQL server of this run, which is not durable."""
    from tests.support import postgres

    if postgres.programs() is None:
        pytest.skip("needs PostgreSQL: make test-system installs it")
    with postgres.cluster() as cluster:
        yield cluster


@pytest.fixture
def pg(postgres):
    """A migrated PostgreSQL database without rows."""
    return postgres.blank()


@pytest.fixture(scope="session")
def engine(request):
    """This run's (tests/support/engines.py)."""
    if request.config.getoption("engine") == "sqlite":
        return Files()
    return Server(request.getfixturevalue("postgres"))


@pytest.fixture
def database(engine, request):
    """The location of a migrated database without rows."""
    if isinstance(engine, Files):
        yield request.getfixturevalue("db_path")
    else:
        with engine.blank() as where:
            yield where


@pytest.fixture
def store(database):
    store = open_store(database)
    yield store
    store.close()


@pytest.fixture
def db(engine, database):
    """A second connection to look into the database."""
    with engine.looking(database) as connection:
        yield connection


@pytest.fixture
def world(engine, dialect):
    """Six calls of two agents on two days, and a body that was not understood."""
    with engine.viewed("UTC", dialect) as connection:
        viewing.fill(connection)
        yield connection


@pytest.fixture
def settings(database) -> config.Settings:
    return config.load({"RETELL_API_KEY": KEY, "CALLHOUSE_DATABASE_URL": url_of(database)})


@pytest.fixture
def app(settings):
    from receiver.webhook.app import create_app

    app = create_app(settings, now_ms=lambda: NOW_MS, health_cache_seconds=0)
    yield app
    app.extensions["callhouse"]["store"].close()
    app.extensions["callhouse"]["counters"].close()


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture(scope="module")
def chromium():
    """A browser, for modules that have the mark NEEDS_BROWSER."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"],
        )
        yield browser
        browser.close()
