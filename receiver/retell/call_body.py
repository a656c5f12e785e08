"""Arguments -> the body of create-phone-call, checked before anything leaves. Pure.

Fields and rules: https://docs.retellai.com/api-references/create-phone-call
"""

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from receiver.errors import UnusableCall
from receiver.retell.sending import compact

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

# A plus, a country code that starts with no zero, and at most 15 digits. Source: ITU-T E.164
_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SIP_HEADER = re.compile(r"X-[A-Za-z0-9-]+")


def pairs(texts: Iterable[str], *, option: str) -> dict[str, str]:
    """KEY=VALUE texts as a dict. Raises UnusableCall for one without a key or an equals sign."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UnusableCall(f"{option} wants KEY=VALUE")
        found[key] = value
    return found


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `over` says; objects of strings key by key, None says nothing."""
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
    """Raise UnusableCall, naming the field and never its value, if Retell would refuse `body` or
    read it otherwise than meant."""
    for name in body:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            raise UnusableCall(
                "there is a field that a call does not have",
                hint=f"Did you mean {near[0]}?" if near else f"A call has {', '.join(FIELDS)}.",
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
                "a SIP header is not usable",
                hint="Its name starts with X-, such as X-Campaign, and its value is one line.",
            )
    key = body.get("idempotency_key")
    if key is not None and (not isinstance(key, str) or not key):
        raise UnusableCall("idempotency_key is not a text")


def _check_flags(body: Mapping[str, Any]) -> None:
    for name in ("ignore_e164_validation", "honor_internal_dnc"):
        if not isinstance(body.get(name, False), bool):
            raise UnusableCall(f"{name} is neither true nor false")


def _check_numbers(body: Mapping[str, Any]) -> None:
    for name in ("to_number", "from_number"):
        number = body.get(name)
        if not isinstance(number, str) or not number:
            raise UnusableCall(f"{name} is missing")
        if not body.get("ignore_e164_validation") and not _E164.fullmatch(number):
            raise UnusableCall(
                f"{name} is not an E.164 number",
                hint="Write it with plus and country code and without spaces: +14155550123.",
            )


def _check_agent(body: Mapping[str, Any]) -> None:
    agent_id = body.get("override_agent_id")
    if agent_id is not None and (not isinstance(agent_id, str) or not agent_id):
        raise UnusableCall("override_agent_id is not an agent's id")
    version = body.get("override_agent_version")
    # To Python, True is a number.
    is_number = isinstance(version, int) and not isinstance(version, bool) and version >= 0
    if version is not None and not is_number and (not isinstance(version, str) or not version):
        raise UnusableCall(
            "override_agent_version is not a version",
            hint="It is a number, a tag, latest or latest_published.",
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
            hint="Pass an id and keep the rest with you.",
        )


def _check_texts(body: Mapping[str, Any], name: str) -> None:
    values = body.get(name, {})
    if not isinstance(values, Mapping) or not all(isinstance(v, str) for v in values.values()):
        raise UnusableCall(
            f"{name} is not an object of texts", hint='Write numbers and flags as texts: "42".'
        )
