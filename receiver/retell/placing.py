"""Placing one call: checked, sent once, and stored before it rings."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from receiver import config
from receiver.errors import (
    PlacedButNotStored,
    PlacementUnknown,
    RetellError,
    StoreUnavailable,
    UnexpectedAnswer,
)
from receiver.retell.call_body import check, merged
from receiver.retell.client import Answer, Retell
from receiver.store import AnyStore, migrate, open_store, receive


@dataclass(frozen=True, slots=True)
class Placed:
    """A call that Retell has taken on, and its answer as it came."""

    call_id: str
    answer: Answer


def place_call(
    to_number: str,
    *,
    from_number: str,
    override_agent_id: str | None = None,
    override_agent_version: int | str | None = None,
    agent_override: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    retell_llm_dynamic_variables: Mapping[str, str] | None = None,
    custom_sip_headers: Mapping[str, str] | None = None,
    ignore_e164_validation: bool | None = None,
    honor_internal_dnc: bool | None = None,
    idempotency_key: str | None = None,
    settings: config.Settings | None = None,
) -> Placed:
    """Place an outbound call and store it, with the environment's settings by default.

    Raises UnusableCall before anything is sent, RetellError if Retell placed nothing,
    PlacementUnknown, and PlacedButNotStored.
    """
    body = {
        name: value for name, value in locals().items() if name != "settings" and value is not None
    }
    settings = settings or config.load()
    check(body)
    key = settings.require_api_key()
    migrate(settings.database, timezone=settings.timezone)
    store = open_store(settings.database)
    try:
        with Retell(settings.base_url, key) as retell:
            return place(retell, store, body)
    finally:
        store.close()


def place(retell: Retell, store: AnyStore, body: Mapping[str, Any]) -> Placed:
    """Place a checked body and store the answer. Raises as `place_call`.

    A body without an idempotency key gets one: with it an attempt whose answer was lost can be
    repeated within the hour.
    """
    body = merged({"idempotency_key": secrets.token_hex(16)}, body)
    try:
        placed = create(retell, body)
    except (RetellError, KeyboardInterrupt) as error:
        if isinstance(error, RetellError) and not error.may_have_happened:
            raise
        reason = f": {error}" if str(error) else ""
        raise PlacementUnknown(
            f"it is not known whether the call was placed{reason}",
            hint="Within an hour, the same again cannot place a second call with "
            f"--idempotency-key {body['idempotency_key']}",
        ) from (error if isinstance(error, KeyboardInterrupt) else None)
    keep(store, retell, placed.call_id, placed.answer)
    return placed


def create(retell: Retell, body: Mapping[str, Any]) -> Placed:
    """Place a call, with one request. Raises RetellError."""
    answer = retell.create_phone_call(body)
    call_id = answer.value.get("call_id") if isinstance(answer.value, dict) else None
    if not isinstance(call_id, str) or not call_id:
        raise UnexpectedAnswer("Retell's answer has no call_id", answered=answer.status)
    return Placed(call_id, answer)


def keep(store: AnyStore, retell: Retell, call_id: str, answer: Answer) -> None:
    """Store what the API said of a call. Raises PlacedButNotStored."""
    try:
        store.add(
            receive(
                answer.body,
                source="api",
                observed_at=answer.started_at_ms,
                received_at=retell.now_ms(),
            )
        )
    except StoreUnavailable as error:
        raise PlacedButNotStored(
            f"the call {call_id} was placed, but not stored: {error}"
        ) from None
