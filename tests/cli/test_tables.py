"""Tables of the command line in terminals of 80 and of 60 columns: nothing that matters is cut."""

import io
import re

import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.console import Console

from receiver.browse import access
from receiver.cli import access as access_command
from receiver.cli import copying, fetching, main, tables, webhook
from receiver.retell.coverage import Report, Row
from receiver.retell.webhooks import AgentWebhook
from receiver.store.postgres.distributing import PlacedTable, Placement

AGENT = "agent_b7559010ef20eb3a8e72252a52"
CALL = "call_b7559010ef20eb3a8e72252a524"
NAMES = (
    "Ann",
    "Riverside Dental, new patients and recalls, after hours (copy of copy 2)",
    "株式会社さくら歯科医院・新規予約受付および診療時間外のお問い合わせ窓口担当エージェント",
    "a" * 120,
)
WIDTHS = (80, 60)


@pytest.fixture(params=WIDTHS)
def terminal(request, monkeypatch):
    """What is printed to a terminal of so many columns."""
    out = io.StringIO()
    console = Console(file=out, width=request.param, force_terminal=True, color_system=None)
    whole = tables.print_table

    def shown(*args, **options):
        whole(*args, **options, console=console)

    for module in (fetching, webhook, access_command, copying):
        monkeypatch.setattr(module, "print_table", shown)

    def lines():
        found = [line.rstrip() for line in out.getvalue().splitlines()]
        assert max(map(cell_len, found)) <= request.param, "\n".join(found)
        assert "…" not in "".join(found)
        return found

    return lines


@pytest.mark.parametrize("count", [7, 1_234, 1_234_567])
def test_coverage_fits_with_whole_days_and_counts(terminal, count):
    report = Report()
    for day, name in enumerate(NAMES, 1):
        row = Row(f"2026-05-0{day}", AGENT, name, *[count] * 8)
        row.missing_call_ids = [CALL] * day
        report.rows[row.day, name] = row
    fetching.print_report(report)
    found = "\n".join(terminal())
    for day, name in enumerate(NAMES, 1):
        assert f"2026-05-0{day}" in found
        assert name.split()[0][:5] in found
    assert len(re.findall(rf"(?<![\w-]){count:,}(?![\w,])", found)) == 7 * len(NAMES)
    assert len(re.findall(rf"(?<![\w-]){4 * count:,}(?![\w,])", found)) == 7


def test_cells_of_a_row_begin_on_one_line():
    out = io.StringIO()
    columns = (("day", "piece"), ("agent", "text"), ("final\ncost", "count"))
    console = Console(file=out, width=30, force_terminal=True, color_system=None)
    tables.print_table(columns, [("2026-05-01", "Riverside Dental", "7")], console=console)
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["final"],
        ["day", "agent", "cost"],
        ["2026-05-01", "Riverside", "7"],
        ["Dental"],
    ]


def test_drift_fits_with_whole_ids_and_counts(terminal):
    row = {"place": "call.call_analysis", "what": "key", "name": "x" * 50, "entities": 1_234_567}
    fetching.print_drift(
        [row | {"first_seen": "2026-05-09T14:52:42.120+02:00", "example": CALL}] * 2
    )
    found = "\n".join(terminal())
    assert found.count(CALL) == found.count("1,234,567") == found.count("2026-05-09") == 2


def test_webhooks_fit_with_whole_ids_and_urls(terminal, monkeypatch):
    url = "https://calls.example.com/webhook"
    found = [AgentWebhook(AGENT, name, "voice", 12, False, url, None) for name in NAMES]
    monkeypatch.setattr("receiver.retell.webhooks.agent_webhooks", lambda _: found)
    monkeypatch.setenv("RETELL_API_KEY", "key_a")
    assert CliRunner().invoke(main, ["webhook", "show"]).exit_code == 0
    text = "\n".join(terminal())
    assert text.count(AGENT) == text.count(url) == text.count("12 (draft)") == len(NAMES)


def test_users_fit(terminal):
    known = {name[:30]: access.new_user("masked", "secret") for name in NAMES}
    access_command._print(known, "none")
    assert "\n".join(terminal()).count("masked") == len(known)


def test_copied_tables_fit(terminal):
    rows = {"node_transitions": 123_456_789, "calls": 1}
    copying._print_rows(rows, {"calls": 1})
    text = "\n".join(terminal())
    assert "123,456,789" in text
    assert "1 differ" in text


def test_distributed_tables_fit(terminal):
    copying._print_placed(
        [PlacedTable("node_transitions", Placement.DISTRIBUTED, "call_id", True)] * 2
    )
    assert "\n".join(terminal()).count("distributed by call_id") == 2


def test_output_to_a_pipe_is_not_wrapped(capsys):
    row = ("2026-05-01", NAMES[1], "1")
    tables.print_table((("day", "piece"), ("agent", "text"), ("n", "count")), [row] * 3)
    _, *lines = capsys.readouterr().out.splitlines()
    assert [re.split(r"  +", line.strip()) for line in lines] == [list(row)] * 3


@pytest.mark.parametrize("width", WIDTHS)
def test_help_shows_each_summary_whole(width):
    for names in ([], ["webhook"], ["user"], ["token"]):
        result = CliRunner().invoke(main, [*names, "--help"], terminal_width=width)
        lines = result.output.splitlines()
        group = main.commands[names[0]] if names else main
        listed = " ".join(" ".join(lines[lines.index("Commands:") :]).split())
        for command in group.commands.values():
            summary = " ".join(command.help.split("\n\n")[0].split())
            assert summary.split(". ")[0].rstrip(".") in listed
        assert "..." not in listed
        assert all(len(line) <= width for line in lines[lines.index("Commands:") :])
