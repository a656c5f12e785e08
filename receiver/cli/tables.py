"""Tables that fit the terminal: columns, or on a narrow terminal a block for each row."""

import sys
from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Text may wrap; a piece (an id, a date, an address) or a count may not.
Kind = Literal["text", "piece", "count"]
Column = tuple[str, Kind]

# The minimum width of a column of text.
_TEXT_WIDTH = 10
# Spaces between columns: the widest that fits.
_GAPS = (2, 1)


def print_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str | None] | None = None,
    footer: Sequence[str] | None = None,
    console: Console | None = None,
) -> None:
    """Print rows of cells. A heading with a line break takes two lines.

    Without a terminal, each row is one line for programs to read.
    """
    to_person = console is not None or (sys.stdout is not None and sys.stdout.isatty())
    console = console or Console(highlight=False)
    styles = styles or [None] * len(rows)
    cells = [*rows, *([footer] if footer else [])]
    widths = [
        max(_heading(name), *(cell_len(row[i]) for row in cells), 0)
        for i, (name, _) in enumerate(columns)
    ]
    gap = _GAPS[0]
    if to_person:
        texts = [i for i, (_, kind) in enumerate(columns) if kind == "text"]
        fixed = sum(widths[i] for i in range(len(columns)) if i not in texts)
        least = sum(min(widths[i], _TEXT_WIDTH) for i in texts)
        room = console.width - fixed
        gap = next((g for g in _GAPS if room - g * (len(columns) - 1) >= least), 0)
        left = room - gap * (len(columns) - 1)
        if not gap:
            _print_blocks(console, columns, rows, styles, footer)
            return
        for i in texts:
            # Each gets its full width if the others keep their minimum.
            least -= min(widths[i], _TEXT_WIDTH)
            widths[i] = min(widths[i], left - least)
            left -= widths[i]
    table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
    height = max(name.count("\n") for name, _ in columns)
    for (name, kind), width in zip(columns, widths, strict=True):
        justify: Literal["left", "right"] = "right" if kind == "count" else "left"
        # Headings end on the same line; cells begin on the same line.
        heading = "\n" * (height - name.count("\n")) + name
        table.add_column(heading, justify=justify, width=width, overflow="fold")
    for row, style in zip(rows, styles, strict=True):
        table.add_row(*map(Text, row), style=style)
    if footer:
        table.add_row(*map(Text, footer), style="bold")
    if not to_person:
        console.width = sum(widths) + gap * len(columns)
    console.print(table)


def _heading(name: str) -> int:
    return max(map(cell_len, name.split("\n")))


def _print_blocks(
    console: Console,
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    styles: Sequence[str | None],
    footer: Sequence[str] | None,
) -> None:
    """Print each row as its first two cells, and below them the others with their names."""
    for row, style in [*zip(rows, styles, strict=True), *([(footer, "bold")] if footer else [])]:
        lines = _lines([cell for cell in row[:2] if cell], console.width, "")
        pairs = []
        for (name, _), cell in zip(columns[2:], row[2:], strict=True):
            # A heading in two lines may have been cut within a word.
            heading = name.replace("-\n", "").replace("\n", " ")
            pairs.append(f"{heading} {cell}" if cell else "")
        for line in [*lines, *_lines([p for p in pairs if p], console.width, "    ")]:
            console.print(Text(line, style=style or ""), soft_wrap=True)


def _lines(pieces: Sequence[str], width: int, indent: str) -> list[str]:
    """Fill lines with the pieces; fold a piece that is longer than a line."""
    lines: list[str] = []
    for piece in pieces:
        joined = f"{lines[-1]}  {piece}" if lines else ""
        if joined and cell_len(joined) <= width:
            lines[-1] = joined
            continue
        room = width - len(indent)
        folded = Text(piece).wrap(Console(width=room), room, overflow="fold")
        lines += [indent + line.plain.rstrip() for line in folded]
    return lines
