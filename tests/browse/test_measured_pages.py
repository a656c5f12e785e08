"""The benchmark measures every page that there is."""

import re
from urllib.parse import parse_qsl, urlsplit

import pytest

from benchmarks.pages import NOT_MEASURED, pages
from receiver.browse import register_routes
from receiver.browse.charts import DASHBOARDS
from receiver.browse.pages.call_list import SORTS
from receiver.browse.pages.call_sources import (
    FIELDS,
)
from receiver.store import Store, migrate, receive
from schema.questions import questions
from schema.sql.views import views
from schema.tables import TABLES
from tests.support.webhooks import PAYLOADS


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    path = tmp_path_factory.mktemp("measured") / "retell.db"
    migrate(path, timezone="UTC")
    store = Store(path)
    for name in ("event-call_analyzed", "event-chat_ended-api_chat"):
        body = (PAYLOADS / f"{name}.json").read_bytes()
        store.add(receive(body, source="webhook", observed_at=1, received_at=1))
    store.close()
    return list(pages(path))


def test_benchmark_measures_every_route(measured):
    paths = {urlsplit(page).path for page in measured} | NOT_MEASURED
    unmeasured = [
        route for route, _ in register_routes() if not any(re.match(route, path) for path in paths)
    ]
    assert unmeasured == []


def test_benchmark_measures_every_filter_and_order(measured):
    lists = [dict(parse_qsl(urlsplit(page).query)) for page in measured if "/-/calls?" in page]
    assert FIELDS.keys() <= {name for query in lists for name in query}
    sorts = {query.get("sort") for query in lists}
    assert {sort for name in SORTS for sort in (name, f"-{name}")} <= sorts


def test_benchmark_measures_dashboards_questions_and_tables(measured):
    paths = {urlsplit(page).path for page in measured}
    named = [*(table.name for table in TABLES), *views(), *questions()]
    assert {f"/retell/{name}" for name in named} <= paths
    assert {f"/-/dashboards/{name}" for name in DASHBOARDS} <= paths
