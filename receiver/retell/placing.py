"""Place one call: check the body, send it once, store the response, and follow the call.

Fields and rules: https://docs.retellai.com/api-references/create-phone-call
"""

import difflib
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from receiver import config
from receiver.addresses import Location
from receiver.errors import (
    PlacedButNotStored,
    PlacementUnknown,
    RetellError,
    StoreUnavailable,
    UnexpectedAnswer,
    UnusableCall,
)
from receiver.retell.client import Answer, Retell
from receiver.retell.fetching import observation_of
from receiver.retell.http import compact
from receiver.store import AnyStore, CallState, migrate, open_store, state_of


@dataclass(frozen=True, slots=True)
class Placed:
    """A call that Retell has placed, and the response."""

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
    account: str | None = None,
    settings: config.Settings | None = None,
) -> Placed:
    """Place an outbound call and store it, with the environment's settings by default.

    Raises UnusableCall before anything is sent, RetellError if Retell placed nothing,
    PlacementUnknown, and PlacedButNotStored.
    """
    body = {
        name: value
        for name, value in locals().items()
        if name not in ("account", "settings") and value is not None
    }
    settings = settings or config.load()
    check(body)
    key = settings.require_api_key(account)
    migrate(settings.database, timezone=settings.timezone, account_keys=settings.account_keys)
    store = open_store(settings.database)
    try:
        with Retell(settings.base_url, key) as retell:
            return place(retell, store, body)
    finally:
        store.close()


def place(retell: Retell, store: AnyStore, body: Mapping[str, Any]) -> Placed:
    """Place a checked body and store the answer. Raises as `place_call`.

    A body without an idempotency key gets one, so that an attempt whose response was lost can be
    repeated within an hour.
    """
    body = merged({"idempotency_key": secrets.token_hex(16)}, body)
    try:
        placed = create(retell, body)
    except (RetellError, KeyboardInterrupt) as error:
        if isinstance(error, RetellError) and not error.may_have_happened:
            raise
        reason = f": {error}" if str(error) else ""
        raise PlacementUnknown(
            f"unknown whether the call was placed{reason}",
            hint="Within an hour, repeat it without placing a second call: add "
            f"--idempotency-key {body['idempotency_key']}",
        ) from (error if isinstance(error, KeyboardInterrupt) else None)
    store_response(store, retell, placed.call_id, placed.answer)
    return placed


def create(retell: Retell, body: Mapping[str, Any]) -> Placed:
    """Place a call, with one request. Raises RetellError."""
    answer = retell.create_phone_call(body)
    call_id = answer.value.get("call_id") if isinstance(answer.value, dict) else None
    if not isinstance(call_id, str) or not call_id:
        raise UnexpectedAnswer("Retell's response has no call_id", answered=answer.status)
    return Placed(call_id, answer)


def store_response(store: AnyStore, retell: Retell, call_id: str, answer: Answer) -> None:
    """Store the API's response about a call. Raises PlacedButNotStored."""
    try:
        store.add(observation_of(retell, answer.body, answer.started_at_ms))
    except StoreUnavailable as error:
        raise PlacedButNotStored(
            f"the call {call_id} was placed, but not stored: {error}"
        ) from None


FIELDS = (
    "to_number",
    "from_number",
    "override_agent_id",
    "override_agent_version",
    "agent_override",
    "metadata",
    "retell_llm_dynamic_variables",
    "custom_sip_headers",
    "ignore_e164_validation",
    "honor_internal_dnc",
    "idempotency_key",
)
METADATA_MAX_BYTES = 50_000

# A plus, then 7 to 15 digits of which the first is not zero. Source: ITU-T E.164
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SIP_HEADER = re.compile(r"X-[A-Za-z0-9-]+")


def pairs(texts: Iterable[str], *, option: str) -> dict[str, str]:
    """KEY=VALUE texts as a dict. Raises UnusableCall for one without a key or an equals sign."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UnusableCall(f"{option} needs KEY=VALUE")
        found[key] = value
    return found


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over`, except None; nested objects are merged key by key."""
    result = dict(base)
    for name, value in over.items():
        if value is None:
            continue
        before = result.get(name)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            value = {**before, **value}
        result[name] = value
    return result


def check(body: Mapping[str, Any]) -> None:
    """Raise UnusableCall, with the field's name but not its value, if Retell would reject `body` or
    misread it."""
    for name in body:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            raise UnusableCall(
                "the body has an unknown field",
                hint=f"Did you mean {near[0]}?" if near else f"Known fields: {', '.join(FIELDS)}.",
            )
    _check_flags(body)
    _check_numbers(body)
    _check_agent(body)
    _check_metadata(body)
    _check_texts(body, "retell_llm_dynamic_variables")
    _check_texts(body, "custom_sip_headers")
    for name, value in body.get("custom_sip_headers", {}).items():
        if not _SIP_HEADER.fullmatch(name) or re.search("[\r\n]", value):
            raise UnusableCall(
                "a SIP header is invalid",
                hint="Its name starts with X-, such as X-Campaign, and its value is one line.",
            )
    key = body.get("idempotency_key")
    if key is not None and (not isinstance(key, str) or not key):
        raise UnusableCall("idempotency_key must be a string")


def _check_flags(body: Mapping[str, Any]) -> None:
    for name in ("ignore_e164_validation", "honor_internal_dnc"):
        if not isinstance(body.get(name, False), bool):
            raise UnusableCall(f"{name} must be true or false")


def _check_numbers(body: Mapping[str, Any]) -> None:
    for name in ("to_number", "from_number"):
        number = body.get(name)
        if not isinstance(number, str) or not number:
            raise UnusableCall(f"{name} is missing")
        if not body.get("ignore_e164_validation") and not _E164.fullmatch(number):
            raise UnusableCall(
                f"{name} is not an E.164 number",
                hint="Write it with + and country code, without spaces: +14155550123.",
            )


def _check_agent(body: Mapping[str, Any]) -> None:
    agent_id = body.get("override_agent_id")
    if agent_id is not None and (not isinstance(agent_id, str) or not agent_id):
        raise UnusableCall("override_agent_id must be a string")
    version = body.get("override_agent_version")
    # In Python, True is an int.
    is_number = isinstance(version, int) and not isinstance(version, bool) and version >= 0
    if version is not None and not is_number and (not isinstance(version, str) or not version):
        raise UnusableCall(
            "override_agent_version is not a valid version",
            hint="Use a number, a tag, latest or latest_published.",
        )
    if not isinstance(body.get("agent_override", {}), Mapping):
        raise UnusableCall("agent_override is not an object")


def _check_metadata(body: Mapping[str, Any]) -> None:
    metadata = body.get("metadata", {})
    if not isinstance(metadata, Mapping):
        raise UnusableCall("metadata is not an object")
    if len(compact(metadata)) > METADATA_MAX_BYTES:
        raise UnusableCall(
            f"metadata is longer than {METADATA_MAX_BYTES} bytes",
            hint="Pass an id instead, and keep the data in your system.",
        )


def _check_texts(body: Mapping[str, Any], name: str) -> None:
    values = body.get(name, {})
    if not isinstance(values, Mapping) or not all(isinstance(v, str) for v in values.values()):
        raise UnusableCall(
            f"{name} must be an object of strings",
            hint='Write numbers and booleans as strings: "42".',
        )


POLL_SECONDS = 0.5
# Calls are analysed within seconds of their end, or never.
ANALYSIS_SECONDS = 60.0


def follow(
    where: Location,
    call_id: str,
    *,
    timeout_seconds: float,
    changed: Callable[[CallState], None],
    sleep: Callable[[float], None],
    monotonic: Callable[[], float],
) -> CallState | None:
    """Wait until the stored call is analysed, or ANALYSIS_SECONDS after its end; return its state.

    `changed` is called with each new call_status. After `timeout_seconds` it returns what there is,
    None if nothing is stored. Raises the driver's errors.
    """
    began = monotonic()
    ended_at: float | None = None
    last: CallState | None = None
    while True:
        state = state_of(where, call_id)
        now = monotonic()
        if state is not None:
            if last is None or state.call_status != last.call_status:
                changed(state)
            last = state
            if state.is_analysed:
                return state
            if state.is_over:
                ended_at = now if ended_at is None else ended_at
                if now - ended_at >= ANALYSIS_SECONDS:
                    return state
        if now - began >= timeout_seconds:
            return last
        sleep(POLL_SECONDS)
