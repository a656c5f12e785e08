"""Commands that change calls and chats at Retell."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from receiver import config
from receiver.cli.group import main, one_account
from receiver.errors import (
    ChangedButNotStored,
    NotAtRetell,
    StoreUnavailable,
    UnexpectedAnswer,
)

if TYPE_CHECKING:
    from receiver.retell.client import Answer, Retell

_CHAT = click.option("--chat", "is_chat", is_flag=True, help="The id is a chat's.")
_YES = click.option("--yes", is_flag=True, help="Do not ask.")
_ID = click.argument("id")


@main.group()
def retell() -> None:
    """Change calls and chats at Retell, and store what it answers.

    \b
    Example:
      callhouse retell stop call_b7559010ef20eb3a8e72252a524
    """


@retell.command()
@_ID
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Replaces all metadata.")
@click.option("--attribute", multiple=True, metavar="KEY=VALUE", help="A custom attribute.")
@click.option(
    "--storage",
    type=click.Choice(["everything_except_pii", "basic_attributes_only"]),
    help="Confirm that Retell permanently deletes the data that the setting excludes.",
)
@_CHAT
@one_account
@_YES
def update(
    id: str,
    metadata: tuple[str, ...],
    attribute: tuple[str, ...],
    storage: str | None,
    is_chat: bool,
    account: str | None,
    yes: bool,
) -> None:
    """Change a call that is over, or a chat.

    \b
    Examples:
      callhouse retell update call_b7559010ef20eb3a8e72252a524 --metadata lead=7
      callhouse retell update call_b7559010ef20eb3a8e72252a524 --storage basic_attributes_only
    """
    from receiver.retell.placing import pairs

    body: dict[str, Any] = {}
    if metadata:
        body["metadata"] = pairs(metadata, option="--metadata")
    if attribute:
        body["custom_attributes"] = pairs(attribute, option="--attribute")
    if storage:
        body["data_storage_setting"] = storage
    if not body:
        raise click.UsageError("Give --metadata, --attribute or --storage.")
    if storage and not yes:
        click.confirm(
            "Retell permanently deletes data that the setting excludes. Continue?", abort=True
        )
    with _changing(id, account, is_chat=is_chat) as (api, store):
        store(api.update_chat(id, body) if is_chat else api.update_call(id, body))
    click.echo("Updated.")


@retell.command()
@_ID
@_CHAT
@one_account
@_YES
def stop(id: str, is_chat: bool, account: str | None, yes: bool) -> None:
    """End an ongoing call or chat now.

    \b
    Example:
      callhouse retell stop call_b7559010ef20eb3a8e72252a524
    """
    if not yes:
        click.confirm(f"End this {'chat' if is_chat else 'call'} now?", abort=True)
    with _api(account, is_chat=is_chat) as (api, _):
        (api.end_chat if is_chat else api.stop_call)(id)
    click.echo("Ended.")


@retell.command()
@_ID
@_CHAT
@one_account
@_YES
def analyse(id: str, is_chat: bool, account: str | None, yes: bool) -> None:
    """Analyse a call or chat again, which Retell charges for.

    \b
    Example:
      callhouse retell analyse call_b7559010ef20eb3a8e72252a524
    """
    if not yes:
        click.confirm("Retell charges for the analysis. Continue?", abort=True)
    with _changing(id, account, is_chat=is_chat) as (api, store):
        store((api.rerun_chat_analysis if is_chat else api.rerun_call_analysis)(id))
    click.echo("Analysed.")


@retell.command()
@click.argument("call_id")
@click.argument("text")
@one_account
def say(call_id: str, text: str, account: str | None) -> None:
    """Tell the agent of an ongoing call something, and let it respond.

    \b
    Example:
      callhouse retell say call_b7559010ef20eb3a8e72252a524 "The order was shipped today."
    """
    control = {"additional_context": text, "trigger_response": True}
    with _api(account) as (api, _):
        api.update_live_call(call_id, {"call_control": control})
    click.echo("Sent.")


@retell.command()
@click.argument("csv_file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--from", "from_number", required=True, metavar="NUMBER", help="Your number, E.164.")
@click.option("--agent", "override_agent_id", metavar="ID", help="Agent, for these calls only.")
@click.option("--name", help="The name of the batch.")
@click.option("--at", type=click.DateTime(), help="When it begins, in CALLHOUSE_TIMEZONE.")
@click.option("--window", multiple=True, metavar="9:00-17:30", help="When to call; repeatable.")
@click.option("--day", multiple=True, help="On this weekday, such as Monday; repeatable.")
@click.option("--resend", is_flag=True, help="Retell does not have the batch of a killed run.")
@one_account
@_YES
def batch(
    csv_file: Path,
    from_number: str,
    override_agent_id: str | None,
    name: str | None,
    at: datetime | None,
    window: tuple[str, ...],
    day: tuple[str, ...],
    resend: bool,
    account: str | None,
    yes: bool,
) -> None:
    """Let Retell place the calls of a list, the CSV file of `call --csv`.

    Unlike `call --csv`, Retell paces the calls. Both have the same journal: nobody is called twice.

    \b
    Example:
      callhouse retell batch customers.csv --from +14155550100 --window 9:00-17:00 --day Monday
    """
    from receiver.retell.batches import batch_of, minutes, place, resolve
    from receiver.retell.journal import Journal

    windows = [minutes(text) for text in window]
    with Journal(csv_file) as journal, _api(account) as (api, settings):
        resolve(csv_file, from_number, journal, api, again=resend)
        found = batch_of(
            csv_file, from_number, override_agent_id, journal,
            name=name, at=at, windows=windows, days=day, timezone=settings.timezone,
        )  # fmt: skip
        if found.left_out:
            click.echo(f"Left out, as the journal has them: {found.left_out:,}.")
        if not found.rows:
            return
        count = len(found.rows)
        if not yes:
            calls = "call" if count == 1 else "calls"
            click.confirm(f"Let Retell place {count:,} {calls}?", abort=True)
        answer = place(found, journal, api)
    batch_id = answer.value.get("batch_call_id") if isinstance(answer.value, dict) else None
    click.echo(batch_id or "Created.")


@retell.command("account")
@one_account
@click.option("--json", "as_json", is_flag=True, help="Print Retell's answers.")
def show_account(account: str | None, as_json: bool) -> None:
    """Print the workspace of the key, its concurrency and its requested exports.

    \b
    Example:
      callhouse retell account
    """
    with _api(account) as (api, _):
        info, concurrency = api.get_api_key_info().value, api.get_concurrency().value
        exports = api.export_requests()
    if as_json:
        found = {"key": info, "concurrency": concurrency, "exports": {"items": exports}}
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    info, concurrency = (value if isinstance(value, dict) else {} for value in (info, concurrency))
    for label, value in (
        ("workspace", info.get("org_name")),
        ("key", info.get("api_key_name")),
        ("calls now", concurrency.get("current_concurrency")),
        ("at most", concurrency.get("concurrency_limit")),
        ("exports", len(exports)),
    ):
        click.echo(f"{label:10} {'-' if value is None else value}")


@contextmanager
def _api(
    account: str | None, *, is_chat: bool = True
) -> "Iterator[tuple[Retell, config.Settings]]":
    """The API of an account. Without `is_chat`, the hint for an unknown id names --chat."""
    from receiver.retell.client import Retell

    settings = config.load()
    with Retell(settings.base_url, settings.require_api_key(account)) as api:
        try:
            yield api, settings
        except NotAtRetell as error:
            if not is_chat:
                error.hint += " If it is a chat's, add --chat."
            raise


@contextmanager
def _changing(
    id: str, account: str | None, *, is_chat: bool
) -> "Iterator[tuple[Retell, Callable[[Answer], None]]]":
    """The API, and a function that stores the call or chat that Retell answers with.

    The database is opened first, so that an unusable one changes nothing at Retell.
    """
    from receiver.retell.fetching import observation_of
    from receiver.store import migrate, open_store

    kind = "chat" if is_chat else "call"
    with _api(account, is_chat=is_chat) as (api, settings):
        migrate(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
        with closing(open_store(settings.database)) as database:

            def store(answer: "Answer") -> None:
                one = observation_of(api, answer.body, answer.started_at_ms)
                if (one.event.entity_type, one.event.entity_id) != (kind, id):
                    raise UnexpectedAnswer(
                        f"Retell did not answer with this {kind}", answered=answer.status
                    )
                try:
                    database.add(one)
                except StoreUnavailable as error:
                    raise ChangedButNotStored(
                        f"the {kind} was changed at Retell, but not stored: {error}"
                    ) from None

            yield api, store
