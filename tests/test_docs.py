"""README and docs say what the code does."""

import ast
import re
import shlex
import tomllib

import click
import pytest

from benchmarks import capacity
from receiver.browse.access import ROLES
from receiver.browse.charts import DASHBOARDS
from receiver.browse.pages import DATABASE_OF_ROLE
from receiver.cli import main
from receiver.cli.document import commands, dashboards, settings
from receiver.config import SETTINGS
from receiver.errors import docs
from receiver.jobs.alert_rules import shipped_rules
from receiver.retell.client import ERRORS
from receiver.retell.placing import FIELDS
from receiver.webhook.health import NAMES, STATE
from receiver.webhook.signature import BODY_HEADER, OUTCOME_HEADER, PROBE_EVENT
from schema.describe import diagram, render_tables
from schema.events import EVENTS
from schema.sql.views import views
from schema.tables import ALL_TABLES, TABLES
from tests.support import ROOT
from tests.support.days import day, deliver

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
DOCS = {
    str(path.relative_to(ROOT / "docs")): path.read_text(encoding="utf-8")
    for path in ROOT.glob("docs/**/*.md")
}
ALL_PAGES = {"README.md": README, **DOCS}


def test_settings_are_documented_with_default_and_meaning():
    assert DOCS["reference/settings.md"] == settings(), "run `make describe`"
    for setting in SETTINGS:
        default = f"`{setting.default}`" if setting.default else ""
        assert f"| `{setting.name}` | {default} | {setting.meaning} |" in settings()


def test_every_command_and_option_is_documented():
    assert DOCS["reference/commands.md"] == commands(), "run `make describe`"
    for name, command in main.commands.items():
        first_line = command.help.splitlines()[0]
        assert f"| `callhouse {name}` | {first_line} |" in commands()
        for each, subcommand in getattr(command, "commands", {"": command}).items():
            [section] = re.findall(
                rf"^## callhouse {name} ?{each}\n(.*?)(?=^## |\Z)", commands(), re.M | re.S
            )
            for option in subcommand.params:
                assert not option.opts[0].startswith("-") or f"`{option.opts[0]}" in section


def test_commands_in_documents_are_accepted_by_the_parser(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    for file in ("customers.csv", "call.json", "*.json"):
        (tmp_path / file).touch()
    printed = re.findall(
        r"^(?:[A-Z_]+=\S+ )*callhouse ([^|>#\n]*)",
        "\n".join(re.findall(r"```console\n(.*?)```", "".join(ALL_PAGES.values()), re.S)),
        re.M,
    )
    assert len(printed) > 60
    for line in printed:
        arguments = shlex.split(line)
        group = main
        while isinstance(group, click.Group) and arguments:
            group = group.commands[arguments.pop(0)]
        group.make_context(group.name, arguments)


def test_every_event_is_documented():
    for event in EVENTS:
        assert f"`{event}`" in DOCS["reference/events.md"], event


def test_every_option_of_call_is_documented():
    for parameter in main.commands["call"].params:
        for option in parameter.opts:
            if option.startswith("--"):
                assert f"`{option}" in DOCS["reference/calling.md"], option
    for field in FIELDS:
        assert f"`{field}`" in DOCS["reference/calling.md"], field


def test_every_command_about_webhooks_is_documented():
    for name in main.commands["webhook"].commands:
        assert f"callhouse webhook {name}" in DOCS["how-to/webhooks.md"], name
    for word in (PROBE_EVENT, OUTCOME_HEADER, BODY_HEADER):
        assert f"`{word}`" in DOCS["how-to/webhooks.md"], word


def test_every_refusal_of_retells_is_documented():
    for status in ERRORS:
        assert f"\n| {status} | " in DOCS["reference/calling.md"], status


def test_every_table_view_and_column_is_documented():
    assert DOCS["reference/tables.md"] == render_tables(), "run `make describe`"
    for name in [table.name for table in ALL_TABLES] + list(views()):
        assert f"\n## {name}\n" in DOCS["reference/tables.md"], name


def test_views_precede_tables_and_rollups_follow():
    shown = re.findall(r"^## (\w+)\n", render_tables(), re.M)
    assert set(shown[1 : 1 + len(views())]) == set(views())
    tables = [table.name for table in ALL_TABLES]
    assert shown == ["Diagram", *shown[1 : 1 + len(views())], *tables]


@pytest.mark.sqlite
def test_diagram_has_the_foreign_keys(db):
    drawn, joined = set(), set()
    columns = {table.name: table.names for table in TABLES}
    for line in diagram().splitlines()[1:]:
        parent, stroke, other, child, column = re.fullmatch(
            r" {4}(\w+) (?:\|\||\|o)(--|\.\.)(o[|{]) (\w+) : (\w+)", line
        ).groups()
        assert column in columns[child], line
        assert parent in columns, line
        (drawn if stroke == "--" else joined).add((parent, other, child, column))
    expected = {
        (key["table"], "o|" if table.key == (key["from"],) else "o{", table.name, key["from"])
        for table in TABLES
        for key in db.execute(f"PRAGMA foreign_key_list({table.name})")
    }
    assert drawn == expected
    assert len(joined) == 11
    related = {name for parent, _, child, _ in drawn | joined for name in (parent, child)}
    assert columns.keys() - related == {"syncs", "coverage", "saved_views", "statements"} | {
        "alerts",
        "retell_alerts",
    }


def test_every_outcome_that_metrics_count_is_documented():
    for name in NAMES:
        if name not in STATE:
            assert f"`{name}`" in DOCS["reference/health.md"], name


def test_roles_are_documented_with_what_they_see():
    for role, sees in ROLES.items():
        assert f"| `{role}` | `{DATABASE_OF_ROLE[role]}` | {sees} |" in DOCS["reference/access.md"]


def test_every_dashboard_and_chart_is_documented():
    page = DOCS["reference/dashboards.md"]
    assert page == dashboards(), "run `make describe`"
    for dashboard in DASHBOARDS.values():
        assert f"*{dashboard.title}*" in DOCS["reference/browsing.md"]
        [section] = re.findall(rf"^## {dashboard.title}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
        assert re.findall(r"^\| ([A-Z0-9][^|]+) \|", section, re.M) == [
            chart.title for chart in dashboard.charts.values()
        ]


def test_commands_of_the_page_on_access_exist():
    found = re.findall(r"callhouse (user|token) (\w+)", DOCS["how-to/access.md"])
    assert {group for group, _ in found} == {"user", "token"}
    for group, name in found:
        assert name in main.commands[group].commands


def test_links_between_documents_lead_somewhere():
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target, fragment in re.findall(r"\]\(([^)#:\s]*)(#[^)]+)?\)", path.read_text("utf-8")):
            linked = path.parent / target if target else path
            assert linked.exists(), f"{path}: {target}"
            if fragment and linked.suffix == ".md":
                assert fragment in headings(linked), f"{path}: {target}{fragment}"


def test_every_page_is_in_the_index():
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", DOCS["README.md"]))
    assert linked == DOCS.keys() - {"README.md"}


def headings(path):
    """The fragments by which GitHub links to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {"#" + re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_capacity_table_follows_from_the_measured_figures():
    assert "\n".join(capacity.rows()) in DOCS["explanation/capacity.md"]


def test_paths_named_in_documents_exist():
    pages = {**ALL_PAGES, "CONTRIBUTING.md": CONTRIBUTING, "SECURITY.md": SECURITY}
    named = [
        (page, path)
        for page, text in pages.items()
        for path in re.findall(r"\b((?:receiver|schema|tests|docs|benchmarks)/[\w./-]*\w/?)", text)
    ]
    assert len(named) > 100
    missing = {each for each in named if not (ROOT / each[1]).exists()}
    # The file of CONTRIBUTING's chart is there once somebody follows the example.
    assert missing <= {("CONTRIBUTING.md", "receiver/browse/charts/voicemails_by_day.sql")}


def test_documents_named_in_code_exist():
    sources = [ROOT / "Makefile", ROOT / "pyproject.toml"]
    for folder in ("receiver", "schema", "tests", "benchmarks"):
        sources += (ROOT / folder).rglob("*.py")
    named = {
        path
        for source in sources
        for path in re.findall(r"\bdocs/[\w/-]+\.(?:md|png|py)\b", source.read_text("utf-8"))
    }
    assert "docs/how-to/operating.md" in named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_hints_link_to_pages_that_exist():
    """An installed callhouse has no docs/, so a text for people has the address of a page."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert docs("").startswith(urls["Homepage"])
    pages = set()
    for source in (ROOT / "receiver").rglob("*.py"):
        tree = ast.parse(source.read_text(encoding="utf-8"))
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        texts -= {ast.get_docstring(n, clean=False) for n in ast.walk(tree) if _has_docstring(n)}
        assert not [t for t in texts if isinstance(t, str) and re.search(r"docs/.*\.md", t)], source
        pages |= set(re.findall(r"\bdocs\(['\"]([^'\"]+)", source.read_text(encoding="utf-8")))
    assert "how-to/postgres.md" in pages
    assert not [page for page in pages if not (ROOT / "docs" / page).exists()]


def _has_docstring(node):
    return isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)


def test_functions_of_the_traced_webhook_exist():
    rows = re.findall(r"^\| [^|]+ \| `([\w.]+)` \| `(\S+\.py)` \|$", CONTRIBUTING, re.M)
    assert len(rows) > 8
    for function, path in rows:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^ *def {function.rpartition('.')[2]}\(", text, re.M), function


@pytest.fixture(scope="module")
def queries():
    return re.findall(r"```sql\n(.*?)```", README, re.DOTALL)


@pytest.mark.sqlite
def test_readme_queries_return_rows_on_demo_day(store, db, queries):
    deliver(store, day(1, day_start_ms=1_778_544_000_000, calls=120))
    assert len(queries) == 5
    for query in queries:
        assert db.execute(query).fetchall(), query
    # The figures that a view has too are the view's: calls without an analysis count as well.
    (cost,) = (query for query in queries if "dollars_per_success" in query)
    by_version = {(name, version): rest for name, version, *rest in db.execute(cost)}
    scorecard = db.execute(
        "SELECT agent_name, agent_version, calls, cost_per_success_dollars FROM agent_scorecard"
    )
    for name, version, calls, dollars in scorecard:
        assert (by_version[name, version][0], by_version[name, version][2]) == (calls, dollars)
    (tools,) = (query for query in queries if "FROM tool_calls" in query)
    used = {name: (uses, slowest) for name, uses, _, _, slowest in db.execute(tools)}
    by_tool = "SELECT name, sum(calls), max(longest_ms) FROM tool_scorecard GROUP BY name"
    assert used == {name: (uses, slowest) for name, uses, slowest in db.execute(by_tool)}


def test_every_rule_of_alerts_is_documented():
    for rule in shipped_rules():
        line = f"| `{rule.name}` | {rule.description} | {rule.severity} | {rule.within} |"
        assert line in DOCS["how-to/alerts.md"], rule.name


def test_tests_named_in_documents_exist():
    page = (ROOT / "docs/explanation/keeping.md").read_text(encoding="utf-8")
    tests = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )
    known = set(re.findall(r"def test_(\w+)\(", tests))
    columns = (line.split("|")[2] for line in page.splitlines() if line.startswith("| "))
    named = {name for cell in columns for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 50
    assert named - known == set()
