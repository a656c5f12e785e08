"""The commands, the settings and the dashboards as pages of documentation.

`python -m receiver.cli.document commands` (`settings`, `dashboards`) prints a page of
docs/reference/. `make describe` writes all three.
"""

import inspect
import re
import sys
from collections.abc import Iterator

import click

from receiver.browse.charts import DASHBOARDS
from receiver.cli import main
from receiver.config import SETTINGS

_COMMANDS = """# Commands

The exit status is 0 when done, 1 when something is wrong or incomplete, 2 when arguments or
settings cannot be used, 130 after Ctrl-C, 143 after SIGTERM. `callhouse COMMAND --help` prints the
same text as this page.

| command | what it does |
|---|---|
"""
_SETTINGS = """# Settings

Settings are environment variables, or the same lines in a file named `.env` in the working
directory. The environment overrides the file. An unknown name that begins with `CALLHOUSE_` or
`RETELL_` is an error.

| name | default | meaning |
|---|---|---|
"""
_DASHBOARDS = """# Dashboards

The charts of each dashboard, with the file in `receiver/browse/charts/` that has the SQL of each.
[Pages](browsing.md#dashboards--dashboards) says how to choose days, agents and versions.
"""


def settings() -> str:
    """Markdown with a row for each setting."""
    rows = (
        f"| `{setting.name}` | {f'`{setting.default}`' if setting.default else ''} "
        f"| {setting.meaning} |\n"
        for setting in SETTINGS
    )
    return _SETTINGS + "".join(rows)


def commands() -> str:
    """Markdown with a row and a section for each command."""
    rows = (
        f"| `callhouse {name}` | {_paragraphs(command)[0]} |\n"
        for name, command in sorted(main.commands.items())
    )
    sections = (_section(*each) for each in _walk(main, "callhouse"))
    return _COMMANDS + "".join([*rows, *sections])


def dashboards() -> str:
    """Markdown with a section for each dashboard and a row for each of its charts."""
    parts = [_DASHBOARDS]
    for dashboard in DASHBOARDS.values():
        rows = (
            f"| {chart.title} | {chart.description} | `{chart.query}.sql` |\n"
            for chart in dashboard.charts.values()
        )
        table = "| chart | shows | file |\n|---|---|---|\n" + "".join(rows)
        parts.append(f"\n## {dashboard.title}\n\n{dashboard.description}\n")
        parts.append("\n" + table if dashboard.charts else "")
    return "".join(parts)


def _walk(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    for each, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from _walk(command, f"{name} {each}")
        else:
            yield f"{name} {each}", command


def _paragraphs(command: click.Command) -> list[str]:
    """Those of the help text, examples among them."""
    return inspect.cleandoc(command.help or "").split("\n\n")


def _section(name: str, command: click.Command) -> str:
    usage = " ".join([name, *command.collect_usage_pieces(click.Context(command))])
    parts = [f"\n## {name}\n", f"```text\n{usage}\n```\n"]
    for paragraph in _paragraphs(command):
        if not paragraph.startswith("\b\n"):
            parts.append(f"{paragraph}\n")
            continue
        title, _, lines = paragraph.removeprefix("\b\n").partition("\n")
        parts.append(f"{title}\n\n```console\n{inspect.cleandoc(lines)}\n```\n")
    options = [option.get_help_record(click.Context(command)) for option in command.params]
    rows = [_row(*option) for option in options if option]
    if rows:
        parts.append("\n".join(["| option | meaning |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _row(option: str, meaning: str) -> str:
    # Click prints defaults and ranges in brackets after the meaning.
    meaning = re.sub(r"\s+\[(.*)\]$", r" (\1)", meaning)
    cells = (cell.replace("|", r"\|") for cell in (f"`{option}`", meaning))
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    pages = {"commands": commands, "settings": settings, "dashboards": dashboards}
    print(pages[sys.argv[1]](), end="")
