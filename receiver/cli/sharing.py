"""Links that show one call or chat without a login: share."""

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import click

from receiver import clock, config
from receiver.cli.erasing import author
from receiver.cli.group import main
from receiver.cli.tables import Column, print_table
from receiver.errors import NotStored, SettingsError

_COLUMNS: tuple[Column, ...] = (
    ("link", "piece"), ("call", "piece"), ("until", "text"), ("opened", "count"), ("state", "text"),
)  # fmt: skip


@main.command()
@click.argument("call_id", required=False, metavar="[ID]")
@click.option("--masked", is_flag=True, help="Show no personal data.")
@click.option(
    "--days",
    type=click.IntRange(1, 365),
    default=7,
    show_default=True,
    help="Number of days for which it is valid.",
)
@click.option(
    "--url",
    default=None,
    metavar="URL",
    help="The address of `callhouse browse` for people; CALLHOUSE_BROWSE_BIND by default.",
)
@click.option("--list", "is_list", is_flag=True, help="List the links.")
@click.option("--revoke", default=None, metavar="LINK", help="Revoke a link by its id.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def share(
    call_id: str | None,
    *,
    masked: bool,
    days: int,
    url: str | None,
    is_list: bool,
    revoke: str | None,
    as_json: bool,
) -> None:
    """Make a link that shows one call or chat without a login, until it expires or is revoked.

    The link is signed with the secret of `callhouse browse`, and works while browse runs.

    \b
    Examples:
      callhouse share call_b7559010ef20eb3a8e72252a524 --masked --days 2
      callhouse share --list
      callhouse share --revoke pWq3bBnLrMvD0VvJ
    """
    if sum((call_id is not None, is_list, revoke is not None)) != 1:
        raise click.UsageError("Give the id of a call or chat, --list or --revoke LINK.")
    settings = config.load()
    if is_list:
        _list(settings, as_json=as_json)
    elif revoke is not None:
        _revoke(settings, revoke)
    elif call_id is not None:
        _share(settings, call_id, masked=masked, days=days, url=url, as_json=as_json)


def _share(
    settings: config.Settings,
    call_id: str,
    *,
    masked: bool,
    days: int,
    url: str | None,
    as_json: bool,
) -> None:
    from receiver.browse.pages.sharing import Tokens, new_link
    from receiver.browse.server import signing_secret
    from receiver.store import open_store, require_bodies
    from receiver.store.reviewing import is_mirror, write_link

    # A mistyped name must not create a database.
    require_bodies(settings.database)
    if not isinstance(settings.database, Path):
        if not settings.secret:
            raise SettingsError(
                "CALLHOUSE_SECRET is not set",
                hint="Set the same one here and for `callhouse browse`, which checks the link.",
            )
    elif is_mirror(settings.database):
        raise SettingsError(
            "this file is a mirror", hint="Set CALLHOUSE_DATABASE_URL to its server."
        )
    tokens = Tokens(signing_secret(settings))
    now_ms = clock.now_ms()
    link = new_link(call_id, author(), days=days, is_masked=masked, now_ms=now_ms)
    with closing(open_store(settings.database)) as store:
        write_link(store, link)
    address = f"{(url or f'http://{settings.browse_bind}').rstrip('/')}{tokens.path(link)}"
    if as_json:
        click.echo(json.dumps({"url": address, **asdict(link)}))
    else:
        click.echo(address)


def _list(settings: config.Settings, *, as_json: bool) -> None:
    from receiver.browse.pages.sharing import why_invalid
    from receiver.jobs.status import at
    from receiver.store.reviewing import links

    found, now_ms = links(settings.database), clock.now_ms()
    if as_json:
        click.echo(json.dumps([asdict(link) for link in found], indent=2))
        return
    if not found:
        click.echo("No links; `callhouse share ID` makes one.")
        return
    print_table(
        _COLUMNS,
        [
            (
                link.link_id,
                link.call_id,
                at(link.expires_at, settings.timezone),
                f"{link.times_opened:,}",
                why_invalid(link, now_ms) or ("masked" if link.is_masked else "valid"),
            )
            for link in found
        ],
    )


def _revoke(settings: config.Settings, link_id: str) -> None:
    from receiver.store import open_store, require_bodies
    from receiver.store.reviewing import revoke_link

    require_bodies(settings.database)
    with closing(open_store(settings.database)) as store:
        call_id = revoke_link(store, link_id, now_ms=clock.now_ms())
    if call_id is None:
        raise NotStored("no valid link has this id", hint="`callhouse share --list` lists them.")
    click.echo(f"Revoked; it showed {call_id}.")
