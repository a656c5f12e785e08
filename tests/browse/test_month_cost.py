"""The month on the dashboard of cost: figures against days whose costs make them plain."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from receiver import config
from receiver.browse.limits import Limits
from receiver.browse.pages.month_cost import BudgetRow, read_month_cost
from receiver.store import migrate, open_store
from tests.support.browsing import browsing, fetched
from tests.support.storing import stored

# Datasette serves files.
pytestmark = pytest.mark.sqlite

BUDGETS = """
[[alerts.budget]]
name = "all"
dollars = 45
[[alerts.budget]]
name = "ample"
dollars = 100
[[alerts.budget]]
name = "dental"
dollars = 5
agent = "agent_1"
"""


def ms(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


# Today is over at midnight, and has had its calls.
NOW = ms("2026-05-20T23:00")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """From 1 April to 20 May, each day costs two dollars: 50 cents of agent_1, 150 of agent_2."""
    folder = tmp_path_factory.mktemp("month")
    path = folder / "retell.db"
    migrate(path, timezone="UTC")
    store = open_store(path)
    for day in range(50):
        at = ms("2026-04-01T12:00") + day * 86_400_000
        for agent, cents in (("agent_1", 50), ("agent_2", 150)):
            call = {"call_id": f"{agent}_{day}", "agent_id": agent, "start_timestamp": at}
            cost = {"combined_cost": cents, "product_costs": []}
            stored(store, {"event": "call_ended", "call": call | {"call_cost": cost}}, at=at)
    store.close()
    (folder / "callhouse.toml").write_text(BUDGETS, encoding="utf-8")
    return config.load(
        {
            "RETELL_API_KEY": "key",
            "CALLHOUSE_DATABASE_URL": f"sqlite:///{path}",
            "CALLHOUSE_CONFIG": str(folder / "callhouse.toml"),
        }
    )


def test_month_has_cost_forecast_and_budgets(settings):
    """20 days of two dollars are spent; 31 will be, without any spread."""
    month = read_month_cost(settings, now_ms=NOW)
    assert (month.title, month.spent) == ("May 2026", "$40.00")
    assert (month.forecast, month.interval) == ("$62.00", "$62.00 to $62.00")
    # The 23rd day spends the 45th dollar.
    soon = "On 23 May, at this pace"
    later = "Not this month, at this pace"
    assert month.budgets == (
        BudgetRow("all", "$40.00", "$45.00", "89 %", pytest.approx(100 * 40 / 45), soon, "bad"),
        BudgetRow("ample", "$40.00", "$100.00", "40 %", 40.0, later, ""),
        BudgetRow("dental", "$10.00", "$5.00", "200 %", 100.0, "All of it is spent", "bad"),
    )


def test_month_without_a_week_has_no_forecast(settings):
    month = read_month_cost(settings, now_ms=ms("2026-04-03T23:00"))
    assert (month.spent, month.forecast, month.interval) == ("$6.00", "", "")


def test_page_says_when_database_is_unreadable(settings, tmp_path):
    nowhere = SimpleNamespace(
        database=config.load(
            {"RETELL_API_KEY": "key", "CALLHOUSE_DATABASE_URL": f"sqlite:///{tmp_path}/none.db"}
        ).database,
        timezone="UTC",
        file=settings.file,
    )
    assert read_month_cost(nowhere, now_ms=NOW).problem


def test_limited_reader_sees_no_month(settings):
    with browsing(settings, {"lena": ("reader", Limits(agents=("agent_1",)))}) as served:
        for user, sees in (("admin", True), ("lena", False)):
            pages = [fetched(served, f"/-/dashboards/{n}", user) for n in ("cost", "volume")]
            assert [page.status_code for page in pages] == [200, 200]
            seen = [text in pages[0].text for text in ("Spent until now", "ample")]
            assert seen == [sees, sees]
            assert "Spent until now" not in pages[1].text
