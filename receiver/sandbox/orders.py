"""Request bodies of Retell's API, validated by data/bodies.yaml and data/filters.yaml."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import cache, reduce
from operator import or_
from types import GenericAlias
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from receiver.errors import ApiError
from receiver.sandbox.templates import read_data
from receiver.sandbox.wire import Json

INVALID = "Invalid request format, please check API reference."
METADATA_BYTES = 50_000
# The account's own attributes; an update ignores all others.
CUSTOM_ATTRIBUTES = ("customer_tier", "campaign")
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_CHOICES = read_data("data/bodies.yaml")["choices"]
_BODIES = read_data("data/bodies.yaml")["bodies"] | read_data("data/filters.yaml")

_TEXT = Annotated[str, Field(min_length=1)]
_NUMBER = int | float
_TYPES: dict[str, Any] = {
    "string": str,
    "text": _TEXT,
    "E.164": Annotated[str, Field(pattern=f"^{_E164.pattern}$")],
    "boolean": bool,
    "integer": int,
    "count": Annotated[int, Field(ge=0)],
    "limit": Annotated[int, Field(ge=1, le=1000)],
    "query limit": Annotated[int, Field(ge=1, le=1000, strict=False)],
    "number": _NUMBER,
    "minute": Annotated[_NUMBER, Field(ge=0, le=1440)],
    "two numbers": Annotated[list[_NUMBER], Field(min_length=2, max_length=2)],
    "version": int | _TEXT,
    "object": dict[str, Any],
    "strings": dict[str, str],
    "metadata": dict[str, Any],
    "headers": dict[Annotated[str, Field(pattern="^[Xx]-")], str],
    "attributes": dict[str, str | int | float | bool],
}


def _small(order: Any) -> Any:
    if len(json.dumps(order.metadata, ensure_ascii=False).encode()) > METADATA_BYTES:
        raise ValueError(f"metadata is larger than {METADATA_BYTES} bytes")
    return order


def _e164(order: Any) -> Any:
    if not order.ignore_e164_validation:
        for name, number in order.model_dump(include={"from_number", "to_number"}).items():
            if not _E164.fullmatch(number):
                raise ValueError(f"{name} must be in E.164 format")
    return order


def _ordered(window: Any) -> Any:
    if window.start >= window.end:
        raise ValueError("a window ends after it starts")
    return window


def _one_way_on(order: Any) -> Any:
    if order.pagination_key is not None and order.skip:
        raise ValueError("pagination_key and skip cannot be used together")
    return order


# Checks of bodies, by a field that only these bodies have.
_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "metadata": _small,
    "ignore_e164_validation": _e164,
    "start": _ordered,
    "skip": _one_way_on,
}


class Body(BaseModel):
    """A JSON body: strict types, and null only for the fields that allow it. An absent field is
    None."""

    model_config = ConfigDict(strict=True, frozen=True)


class _Criteria(Body):
    # Unknown names are rejected, because a misspelt one would list everything.
    model_config = ConfigDict(extra="forbid")


@cache
def _model(name: str) -> Any:
    """The model of a body; of a list of bodies, one of them by its `type`."""
    found = _BODIES[name]
    if isinstance(found, list):
        return Annotated[reduce(or_, map(_model, found)), Field(discriminator="type")]
    fields: dict[str, Any] = {field: _field(told) for field, told in found.items()}
    if name.endswith("criteria"):
        return create_model(name, __base__=_Criteria, **fields)
    checks: dict[str, Any] = {
        f"check_{field}": model_validator(mode="after")(_CHECKS[field])
        for field in _CHECKS.keys() & found
    }
    return create_model(name, __base__=Body, __validators__=checks, **fields)


def _field(told: str) -> tuple[Any, Any]:
    found = _type(told.rstrip("!?"))
    return (found, ...) if told.endswith("!") else (found | None if "?" in told else found, None)


def _type(told: str) -> Any:
    if told.endswith(("*", "+")):
        least = int(told.endswith("+"))
        return Annotated[GenericAlias(list, (_type(told[:-1]),)), Field(min_length=least)]
    if told in _CHOICES or "|" in told:
        return Literal[tuple(_CHOICES.get(told) or told.strip("|").split("|"))]
    return _TYPES[told] if told in _TYPES else _model(told)


def parse(name: str, body: Any) -> Any:
    """Validate the body of that name. Raises ApiError 400 with the field's name, but not its
    value."""
    try:
        return _model(name).model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ApiError(400, f"{INVALID} {where}: {first['msg']}") from None


def next_ms(window: Any, at_ms: int) -> int:
    """Return the first time from a time on that is within a time window of a batch."""
    # The tests of Retell's own client name a time zone that does not exist.
    name = window.timezone if window.timezone in available_timezones() else None
    now = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(name or "America/Los_Angeles"))
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    found = [
        max(day + timedelta(minutes=minutes.start), now)
        for day in (today + timedelta(days=n) for n in range(9))
        for minutes in window.windows
        if now < day + timedelta(minutes=minutes.end)
        and (not window.day or f"{day:%A}" in window.day)
    ]
    return round(min(found).timestamp() * 1000)


def own_fields(order: Any, *more: str) -> Json:
    """Return the fields that a call or chat copies from its order."""
    own: Json = order.model_dump(
        include={"metadata", "retell_llm_dynamic_variables", *more}, exclude_none=True
    )
    return own


def changes(entity: Mapping[str, Any], update: Any) -> Json:
    """Return the fields of a call or chat that an update changes. Raises ApiError 400."""
    given = update.model_dump(exclude_none=True)
    changed = own_fields(update, "data_storage_setting")
    storage = _CHOICES["storage"]
    before = entity.get("data_storage_setting", storage[0])
    if storage.index(given.get("data_storage_setting", before)) < storage.index(before):
        raise ApiError(400, "The data storage setting can only become stricter.")
    if "custom_attributes" in given:
        known = {n: v for n, v in given["custom_attributes"].items() if n in CUSTOM_ATTRIBUTES}
        changed["custom_attributes"] = entity.get("custom_attributes", {}) | known
    if variables := given.get("override_dynamic_variables"):
        name = "retell_llm_dynamic_variables"
        changed[name] = entity.get(name, {}) | variables
    return changed
