"""The command group, and what commands share: errors, interrupts, numbers, days, progress bars.

Exit status: 0 done, 1 something is wrong or incomplete, 2 unusable arguments or settings, 130 ended
by Ctrl-C, 143 ended by SIGTERM.
"""

import codecs
import io
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from receiver.errors import CallhouseError, FileUnusable, SettingsError

err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
one_account = click.option(
    "--account", metavar="NAME", help="The account; needed if there are several."
)
some_accounts = click.option("--account", metavar="NAME", help="Only this account; all by default.")
seed_option = click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Another seed makes other calls.",
)

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM


class Terminated(KeyboardInterrupt):
    """SIGTERM, within `terminable`."""


class Commands(click.Group):
    """A group that lists its commands with full summaries."""

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list; a long summary continues on the next line."""
        rows = [
            (name, command.get_short_help_str(limit=1000))
            for name, command in sorted(self.commands.items())
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


class _Main(Commands):
    """Prints errors as one sentence and a hint, without a traceback."""

    group_class = Commands

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command from the arguments of the process."""
        for stream in (sys.stdout, sys.stderr):
            # Characters that the encoding lacks are escaped as in JSON, so that JSON stays valid.
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="callhouse")
        try:
            # After a closed pipe, as with `| head`, click exits silently.
            return super().main(*args, **extra)
        except OSError as error:
            # For example while help is printed, before a command is invoked.
            fail(FileUnusable(_os_error_text(error)))
            sys.exit(1)
        finally:
            _close_streams()

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CallhouseError as error:
            if isinstance(error.__cause__, KeyboardInterrupt):
                error.__cause__.add_note(f"{str(error).capitalize()}. {error.hint}.")
                ctx.exit(print_interrupted(error.__cause__))
            fail(error)
            ctx.exit(2 if isinstance(error, SettingsError) else 1)
        except (KeyboardInterrupt, click.Abort) as stopped:
            ctx.exit(print_interrupted(stopped))


def print_interrupted(stopped: BaseException) -> int:
    """Print the one line of a command that was interrupted; return its exit status."""
    is_terminated = isinstance(stopped, Terminated)
    word = "Stopped." if is_terminated else "Interrupted."
    with suppress(OSError):
        err.print(" ".join([word, *getattr(stopped, "__notes__", [])]))
    return TERMINATED if is_terminated else INTERRUPTED


@contextmanager
def resumable(advice: str) -> Iterator[None]:
    """Add `advice` to the message of an interrupt: how to continue."""
    try:
        yield
    except KeyboardInterrupt as stopped:
        stopped.add_note(advice)
        raise


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM end the block like Ctrl-C, so that it can clean up."""

    is_asked = False

    def terminate(*_: object) -> None:
        nonlocal is_asked
        is_asked = True
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except KeyboardInterrupt as stopped:
        # If SIGTERM interrupts a query, SQLite raises a plain KeyboardInterrupt.
        if not is_asked or isinstance(stopped, Terminated):
            raise
        terminated = Terminated()
        for note in getattr(stopped, "__notes__", []):
            terminated.add_note(note)
        raise terminated from None
    finally:
        signal.signal(signal.SIGTERM, before)


def fail(error: CallhouseError) -> None:
    """Print an error and its hint."""
    # stderr may be closed.
    with suppress(OSError):
        err.print("Error:", style="bold red", end=" ")
        err.print(str(error))
        if error.hint:
            err.print(f"  {error.hint}", style="dim")


def progress() -> Progress:
    """A progress bar on stderr, if stderr is a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
        console=err,
        disable=not err.is_terminal,
    )


class Number(click.FloatRange):
    """A finite number in a range."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number. Raises click.BadParameter."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Day(click.DateTime):
    """A day as YYYY-MM-DD, from 1970 to 2999."""

    def __init__(self) -> None:
        super().__init__(["%Y-%m-%d"])

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Its midnight, without a time zone. Raises click.BadParameter."""
        day: datetime = super().convert(value, param, ctx)
        if not 1970 <= day.year <= 2999:
            self.fail(f"{value} is not in the years 1970 to 2999.", param, ctx)
        return day


def _os_error_text(error: OSError) -> str:
    what = f"{error.filename}: " if error.filename is not None else ""
    return f"{what}{error.strerror or type(error).__name__}"


def _close_streams() -> None:
    """Flush; discard what cannot be written, or Python would report it at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _escaped(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


codecs.register_error("callhouse", _escaped)


@click.group(cls=_Main, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="callhouse")
def main() -> None:
    """Keep every call of your Retell AI voice agents: receive, browse, ask.

    \b
    See it in a minute:   callhouse demo
    The real thing:       RETELL_API_KEY=key_... callhouse serve
    """
