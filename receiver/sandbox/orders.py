"""Request bodies of Retell's API, validated."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from receiver.errors import Refusal

INVALID = "Invalid request format, please check API reference."
METADATA_BYTES = 50_000
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
E164 = Annotated[str, Field(pattern=r"^\+[1-9][0-9]{1,14}$")]


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
Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
# From the loosest to the strictest.
Storage = Literal["everything", "everything_except_pii", "basic_attributes_only"]
Metadata = Annotated[dict[str, Any], AfterValidator(_small)]
Headers = Annotated[dict[str, str], AfterValidator(_sip_names)]
Attributes = dict[str, str | int | float | bool]
# The account's own attributes; an update ignores all others.
CUSTOM_ATTRIBUTES = ("customer_tier", "campaign")


class Body(BaseModel):
    """A JSON body: strict types, unknown keys ignored, null only for the fields in `nullable`."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)
    nullable: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _no_nulls(cls, body: Any) -> Any:
        """Retell accepts an absent key, but rejects null."""
        if isinstance(body, dict):
            for name in cls.model_fields:
                if name in body and body[name] is None and name not in cls.nullable:
                    raise ValueError(f"{name} is null")
        return body

    @classmethod
    def parse(cls, body: Any) -> Self:
        """Validate a body. Raises Refusal 400 with the field's name, but not its value."""
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            raise Refusal(400, f"{INVALID} {where}: {first['msg']}") from None


class Order(Body):
    """The fields of every call and chat."""

    metadata: Metadata | None = None
    retell_llm_dynamic_variables: dict[str, str] | None = None


class AgentOrder(Order):
    """A call or chat of an agent."""

    agent_id: Text
    agent_version: int | Text | None = None


class NumberOrder(Order):
    """A call or chat from a number, whose agent can be overridden."""

    to_number: Text
    override_agent_id: Text | None = None
    override_agent_version: int | Text | None = None


class BatchTask(NumberOrder):
    """A call of a batch."""

    agent_override: dict[str, Any] | None = None
    custom_sip_headers: Headers | None = None
    ignore_e164_validation: bool = False

    @model_validator(mode="after")
    def _numbers(self) -> Self:
        if not self.ignore_e164_validation:
            for name, number in self.model_dump(include={"from_number", "to_number"}).items():
                if not _E164.fullmatch(number):
                    raise ValueError(f"{name} must be in E.164 format")
        return self


class PhoneCallOrder(BatchTask):
    """The body of create-phone-call."""

    from_number: Text
    honor_internal_dnc: bool = False
    idempotency_key: str | None = None


class WebCallOrder(AgentOrder):
    """The body of create-web-call."""

    nullable = frozenset({"current_node_id", "current_state"})

    agent_override: dict[str, Any] | None = None
    current_node_id: str | None = None
    current_state: str | None = None


class RegisterOrder(AgentOrder):
    """The body of register-phone-call."""

    agent_override: dict[str, Any] | None = None
    direction: Literal["inbound", "outbound"] = "inbound"
    from_number: Text | None = None
    to_number: Text | None = None


class InboundOrder(Body):
    """Somebody calls or texts a number; `content` is the first message of a chat."""

    from_number: Text
    to_number: Text
    content: Text = "Hello"


class InboundAnswer(Body):
    """What a webhook answers to call_inbound or chat_inbound."""

    override_agent_id: Text | None = None
    override_agent_version: int | Text | None = None
    agent_override: dict[str, Any] | None = None
    dynamic_variables: dict[str, str] | None = None
    metadata: Metadata | None = None

    nullable = frozenset(__annotations__)

    def fields(self) -> dict[str, Any]:
        """Return the fields of a call or chat that the answer sets."""
        given = {
            "retell_llm_dynamic_variables": self.dynamic_variables,
            "metadata": self.metadata,
        }
        return {name: value for name, value in given.items() if value is not None}


class Minutes(Body):
    """From `start` to before `end`, in minutes since midnight."""

    start: Annotated[int | float, Field(ge=0)]
    end: Annotated[int | float, Field(le=1440)]

    @model_validator(mode="after")
    def _ordered(self) -> Minutes:
        if self.start >= self.end:
            raise ValueError("a window ends after it starts")
        return self


class TimeWindow(Body):
    """When the calls of a batch may be placed."""

    windows: Annotated[list[Minutes], Field(min_length=1)]
    day: list[Day] | None = None
    timezone: str | None = None

    def next_ms(self, at_ms: int) -> int:
        """The first time from a time on that is within a window."""
        # The tests of Retell's own client name a time zone that does not exist.
        name = self.timezone if self.timezone in available_timezones() else None
        now = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(name or "America/Los_Angeles"))
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        days = [today + timedelta(days=n) for n in range(9)]
        found = [
            max(day + timedelta(minutes=window.start), now)
            for day in days
            for window in self.windows
            if now < day + timedelta(minutes=window.end)
            and (not self.day or f"{day:%A}" in self.day)
        ]
        return round(min(found).timestamp() * 1000)


class BatchOrder(Body):
    """The body of create-batch-call."""

    from_number: E164
    tasks: Annotated[list[BatchTask], Field(min_length=1)]
    call_time_window: TimeWindow | None = None
    name: str | None = None
    reserved_concurrency: Annotated[int, Field(ge=0)] | None = None
    trigger_timestamp: int | float | None = None


class TakeOver(Body):
    """The body of take-over-live-call."""

    participant_id: Text


class LiveFields(Body):
    """`fields_to_override` of update-live-call."""

    nullable = frozenset({"override_dynamic_variables"})

    metadata: Metadata | None = None
    data_storage_setting: Storage | None = None
    override_dynamic_variables: dict[str, str] | None = None


class LiveControl(Body):
    """`call_control` of update-live-call."""

    additional_context: Text | None = None
    trigger_response: bool = False


class LiveUpdate(Body):
    """The body of update-live-call."""

    call_control: LiveControl | None = None
    fields_to_override: LiveFields | None = None


class CallUpdate(Body):
    """The body of update-call."""

    metadata: Metadata | None = None
    data_storage_setting: Storage | None = None
    custom_attributes: Attributes | None = None


def changes(entity: Mapping[str, Any], update: Body) -> dict[str, Any]:
    """Return the fields of a call or chat that an update changes. Raises Refusal 400."""
    given = update.model_dump(exclude_none=True)
    changed: dict[str, Any] = update.model_dump(
        include={"metadata", "data_storage_setting"}, exclude_none=True
    )
    storage = get_args(Storage)
    before = entity.get("data_storage_setting", storage[0])
    if storage.index(given.get("data_storage_setting", before)) < storage.index(before):
        raise Refusal(400, "The data storage setting can only become stricter.")
    if "custom_attributes" in given:
        known = {n: v for n, v in given["custom_attributes"].items() if n in CUSTOM_ATTRIBUTES}
        changed["custom_attributes"] = entity.get("custom_attributes", {}) | known
    if variables := given.get("override_dynamic_variables"):
        name = "retell_llm_dynamic_variables"
        changed[name] = entity.get(name, {}) | variables
    return changed
