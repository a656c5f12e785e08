"""The command group, and how commands speak: errors, progress."""

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from receiver.errors import CallhouseError, SettingsError

err = Console(stderr=True, highlight=False)


class _Group(click.Group):
    """Prints our errors as one sentence and what to do next, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except CallhouseError as error:
            fail(error)
            ctx.exit(2 if isinstance(error, SettingsError) else 1)


def fail(error: CallhouseError) -> None:
    """Print an error and its hint."""
    err.print("Error:", style="bold red", end=" ")
    err.print(str(error), markup=False, soft_wrap=True)
    if error.hint:
        err.print(f"  {error.hint}", style="dim", markup=False, soft_wrap=True)


def progress() -> Progress:
    """A progress bar on stderr, silent where stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        disable=not err.is_terminal,
    )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="callhouse")
def main() -> None:
    """Keep every call of your Retell AI voice agents: receive, browse, ask.

    \b
    See it in a minute:   callhouse demo
    The real thing:       RETELL_API_KEY=key_... callhouse serve
    """
