"""Commands that manage logins and tokens: user, token."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver import config
from receiver.cli.group import main
from receiver.cli.tables import print_table
from receiver.errors import SettingsError

if TYPE_CHECKING:
    from receiver.browse.access import Token, User

_role = click.option(
    "--role",
    type=click.Choice(["admin", "reviewer", "reader", "masked"]),
    required=True,
    help="reader: everything but raw bodies; reviewer: also reviews and shares calls; admin: also "
    "removes what others added; masked: no personal data.",
)


@main.group()
def user() -> None:
    """Manage the users who may log in to browse, and their roles.

    \b
    Examples:
      callhouse user add jane --role reader
      callhouse user list
      callhouse user remove jane
    """


@user.command("add")
@click.argument("name")
@_role
def add_user(name: str, role: str) -> None:
    """Add a user, or change a user's role and password.

    The command prompts for the password. An empty one, or no terminal, generates and prints one.

    \b
    Example:
      callhouse user add jane --role masked
    """
    from receiver.browse import access

    path = _path()
    name = access.require_name(name)
    password = _asked_password()
    generated = None if password else access.new_password()
    added = access.new_user(role, password or str(generated))
    with access.edit(path) as known:
        known.users[name] = added
    click.echo(f"{name} can log in as {role}: {access.ROLES[role]}.")
    if generated:
        click.echo(f"Password: {generated}")


@user.command("list")
def list_users() -> None:
    """List the users.

    \b
    Example:
      callhouse user list
    """
    from receiver.browse import access

    _print(
        access.load(_path()).users, "No users; `callhouse user add NAME --role reader` adds one."
    )


@user.command("remove")
@click.argument("name")
def remove_user(name: str) -> None:
    """Remove a user, and end the user's sessions.

    \b
    Example:
      callhouse user remove jane
    """
    _remove("user", name)
    click.echo(f"Removed {name}.")


@main.group()
def token() -> None:
    """Manage the tokens with which programs read.

    \b
    Examples:
      callhouse token add spreadsheet --role masked
      curl -H "Authorization: Bearer callhouse_..." http://127.0.0.1:8001/retell_masked/call_log.csv
    """


@token.command("add")
@click.argument("name")
@_role
def add_token(name: str, role: str) -> None:
    """Create a token and print it. It cannot be printed again.

    \b
    Example:
      callhouse token add spreadsheet --role masked
    """
    from receiver.browse import access

    path = _path()
    name = access.require_name(name)
    with access.edit(path) as known:
        if name in known.tokens:
            raise SettingsError(
                f"there is already a token {name}", hint="Remove it first, or choose another name."
            )
        known.tokens[name], text = access.new_token(role)
    click.echo(text)


@token.command("list")
def list_tokens() -> None:
    """List the tokens by name; their text is not stored.

    \b
    Example:
      callhouse token list
    """
    from receiver.browse import access

    known = access.load(_path())
    _print(known.tokens, "No tokens; `callhouse token add NAME --role masked` creates one.")


@token.command("remove")
@click.argument("name")
def remove_token(name: str) -> None:
    """Revoke a token; it stops working at once.

    \b
    Example:
      callhouse token remove spreadsheet
    """
    _remove("token", name)
    click.echo(f"Revoked {name}.")


def _remove(kind: str, name: str) -> None:
    """Raises SettingsError for an unknown name."""
    from receiver.browse import access

    path = _path()
    with access.edit(path) as known:
        names = known.users if kind == "user" else known.tokens
        if names.pop(name, None) is None:
            raise SettingsError(
                f"there is no {kind} {name}", hint=f"`callhouse {kind} list` lists them."
            )


def _path() -> Path:
    """The file of users and tokens. Raises SettingsError if its folder does not exist."""
    from receiver.browse import access

    path = access.path_beside(config.load().database_path)
    if not path.parent.is_dir():
        raise SettingsError(f"there is no folder {path.parent}", hint="Run `callhouse migrate`.")
    return path


def _asked_password() -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        return ""
    return str(
        click.prompt(
            "Password (empty: generate one)",
            default="",
            show_default=False,
            hide_input=True,
            confirmation_prompt=True,
        )
    )


def _print(known: "Mapping[str, User | Token]", none: str) -> None:
    """Print each name with its role."""
    from receiver.browse.access import ROLES

    if not known:
        click.echo(none)
        return
    print_table(
        (("name", "text"), ("role", "piece"), ("sees", "text")),
        [(name, entry.role, ROLES[entry.role]) for name, entry in sorted(known.items())],
    )
