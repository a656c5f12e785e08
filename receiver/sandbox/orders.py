"""What a request to Retell's API may say: the bodies, checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from receiver.errors import Refusal

INVALID = "Invalid request format, please check API reference."
METADATA_BYTES = 50_000
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
T = TypeVar("T")


def _small(metadata: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(metadata, ensure_ascii=False).encode()) > METADATA_BYTES:
        raise ValueError(f"metadata is larger than {METADATA_BYTES} bytes")
    return metadata


def _sip_names(headers: dict[str, str]) -> dict[str, str]:
    for name in headers:
        if not name.lower().startswith("x-"):
            raise ValueError("names of custom SIP headers start with X-")
    return headers


Text = Annotated[str, Field(min_length=1)]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
Headers = Annotated[dict[str, str], AfterValidator(_sip_names)]


class Body(BaseModel):
    """A JSON body: types as written, unknown keys ignored, null only where it says so."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)
    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, body: Any) -> Any:
        """Retell takes an absent key for "not given", and null for a mistake."""
        if isinstance(body, dict):
            for name in cls.model_fields:
                if name in body and body[name] is None and name not in cls.nullable:
                    raise ValueError(f"{name} is null")
        return body


class CallOrder(Body):
    """What both kinds of calls are created with."""

    metadata: Metadata | None = None
    retell_llm_dynamic_variables: dict[str, str] | None = None
    agent_override: dict[str, Any] | None = None


class PhoneCallOrder(CallOrder):
    """The body of create-phone-call."""

    from_number: Text
    to_number: Text
    override_agent_id: Text | None = None
    override_agent_version: int | Text | None = None
    custom_sip_headers: Headers | None = None
    ignore_e164_validation: bool = False
    honor_internal_dnc: bool = False
    idempotency_key: str | None = None

    @model_validator(mode="after")
    def _numbers(self) -> PhoneCallOrder:
        if not self.ignore_e164_validation:
            for name, number in (("from_number", self.from_number), ("to_number", self.to_number)):
                if not _E164.fullmatch(number):
                    raise ValueError(f"{name} must be in E.164 format")
        return self


class WebCallOrder(CallOrder):
    """The body of create-web-call."""

    nullable = frozenset({"current_node_id", "current_state"})

    agent_id: Text
    agent_version: int | Text | None = None
    current_node_id: str | None = None
    current_state: str | None = None


class CallUpdate(Body):
    """The body of update-call."""

    metadata: Metadata | None = None
    data_storage_setting: (
        Literal["everything", "everything_except_pii", "basic_attributes_only"] | None
    ) = None
    custom_attributes: dict[str, str | int | float | bool] | None = None


def parsed(make: Callable[[Any], T], body: Any) -> T:
    """Return `make(body)`. Raises Refusal 400 that names the field, never its value."""
    try:
        return make(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise Refusal(400, f"{INVALID} {where}: {first['msg']}") from None
