"""Commands that manage logins and tokens: user, token."""

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver import config
from receiver.cli.group import main
from receiver.cli.tables import print_table
from receiver.errors import SettingsError

if TYPE_CHECKING:
    from receiver.browse.access import Token, User
    from receiver.browse.limits import Limits

_role = click.option(
    "--role",
    type=click.Choice(["admin", "reviewer", "reader", "masked"]),
    required=True,
    help="reader: everything but raw bodies; reviewer: also reviews and shares calls; admin: also "
    "removes annotations of others; masked: no personal data.",
)


def _login(add: "Callable[[str, str, Limits], None]") -> Callable[..., None]:
    """NAME, --role and the options that limit whose calls a login sees; each can be repeated."""

    @wraps(add)
    def command(
        name: str,
        role: str,
        account: tuple[str, ...],
        agent: tuple[str, ...],
        metadata: tuple[str, ...],
    ) -> None:
        from receiver.browse.access import require_name
        from receiver.browse.limits import parse_limits

        add(require_name(name), role, parse_limits(role, account, agent, metadata))

    for option, metavar, help_ in (
        ("metadata", "NAME=VALUE", "Only calls and chats whose metadata has this value."),
        ("agent", "AGENT_ID", "Only calls and chats of this agent."),
        ("account", "NAME", "Only calls and chats of this account."),
    ):
        command = click.option(f"--{option}", metavar=metavar, multiple=True, help=help_)(command)
    return click.argument("name")(_role(command))


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
@_login
def add_user(name: str, role: str, limits: "Limits") -> None:
    """Add a user, or change a user's role, limits and password.

    The command prompts for the password. An empty one, or no terminal, generates and prints one.
    --account, --agent and --metadata limit the user to the calls and chats that match all of them;
    repeat an option to allow several of its values.

    \b
    Examples:
      callhouse user add jane --role masked
      callhouse user add acme --role reader --metadata client=acme
    """
    from receiver.browse import access

    path = _path()
    password = _asked_password()
    generated = None if password else access.new_password()
    added = access.new_user(role, password or str(generated), limits)
    with access.edit(path) as known:
        known.users[name] = added
    only = f" Only calls of: {limits}." if limits else ""
    click.echo(f"{name} can log in as {role}: {access.ROLES[role]}.{only}")
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


@user.command("logout")
@click.argument("name")
def log_out_user(name: str) -> None:
    """End all sessions of a user, or of admin. The password stays.

    \b
    Example:
      callhouse user logout jane
    """
    from receiver.browse import access

    with access.edit(_path()) as known:
        if name != access.ADMIN and name not in known.users:
            raise SettingsError(
                f"there is no user {name}", hint="`callhouse user list` lists them."
            )
        known.end_sessions(name)
    click.echo(f"Ended all sessions of {name}.")


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
@_login
def add_token(name: str, role: str, limits: "Limits") -> None:
    """Create a token and print it. It cannot be printed again.

    --account, --agent and --metadata limit it as they limit users: `callhouse user add --help`.

    \b
    Example:
      callhouse token add spreadsheet --role masked
    """
    from receiver.browse import access

    with access.edit(_path()) as known:
        if name in known.tokens:
            raise SettingsError(
                f"there is already a token {name}", hint="Remove it first, or choose another name."
            )
        known.tokens[name], text = access.new_token(role, limits)
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
    """Print each name with its role and limits."""
    from receiver.browse.access import ROLES

    if not known:
        click.echo(none)
        return
    print_table(
        (("name", "text"), ("role", "piece"), ("sees", "text")),
        [
            (name, entry.role, f"{ROLES[entry.role]}, only {entry.limits}")
            if entry.limits
            else (name, entry.role, ROLES[entry.role])
            for name, entry in sorted(known.items())
        ],
    )
