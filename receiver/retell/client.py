"""The client of Retell's API. Responses are kept as raw bytes, HTTP errors become RetellErrors.

Reads wait for a 429 as long as its headers say, and back off from server and connection errors.
Writes are sent once: a create request that is sent twice can place two calls.
Source: https://docs.retellai.com/api-references
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import httpx

from receiver import clock
from receiver.errors import (
    BadRequest,
    KeyRefused,
    NotAtRetell,
    PaymentRequired,
    RateLimited,
    RetellError,
    RetellFailed,
    RetellSilent,
    RetellUnreachable,
    SettingsError,
    UnexpectedAnswer,
    UnusableReference,
)
from receiver.retell.http import Client, UnusableAnswer, compact
from receiver.webhook.signature import key_id

# The timeouts of Retell's own client: two minutes for a response, ten seconds for a connection.
TIMEOUT = httpx.Timeout(120, connect=10)
# Attempts of a read, and the longest wait between two.
READ_ATTEMPTS = 6
MAX_WAIT_SECONDS = 60.0
FIRST_BACKOFF_SECONDS = 0.5
# Time for a request, from connecting to the last byte of the response.
TOTAL_SECONDS = 300.0
# Items in a page of list-calls, list-chats and list-agents: the API's limit.
PAGE = 1000

# Errors before a request is sent.
_NOTHING_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
    httpx.ProxyError,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response: the bytes as received, and parsed (None for an empty body).

    `started_at_ms` is when the request was sent: the `observed_at` of an API observation.
    """

    status: int
    body: bytes
    value: Any
    started_at_ms: int


class Retell:
    """The API of one account. Raises SettingsError for an invalid URL or key.

    `sleep`, `now_ms` and `chance` (0 to 1) are arguments for tests.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str,
        *,
        timeout: httpx.Timeout = TIMEOUT,
        total_seconds: float = TOTAL_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        now_ms: Callable[[], int] = clock.now_ms,
        chance: Callable[[], float] = random.random,
    ) -> None:
        try:
            self._client = Client(
                total_seconds=total_seconds,
                base_url=base_url,
                headers={"Authorization": f"Bearer {api_key}"},
                timeout=timeout,
            )
        except UnicodeEncodeError:
            raise SettingsError("RETELL_API_KEY contains non-ASCII characters") from None
        except httpx.InvalidURL:
            raise SettingsError("RETELL_BASE_URL is not a valid URL") from None
        self.key_id = key_id(api_key)
        self.sleep = sleep
        self.now_ms = now_ms
        self._chance = chance

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def create_phone_call(self, body: Mapping[str, Any]) -> Answer:
        """Place a call, with one request. Raises RetellError."""
        return self._once("POST", "/v2/create-phone-call", body)

    def get_call(self, call_id: str) -> Answer:
        """The current call object. Raises RetellError."""
        return self._read("GET", f"/v2/get-call/{_segment(call_id)}")

    def get_chat(self, chat_id: str) -> Answer:
        """The current chat object. Raises RetellError."""
        return self._read("GET", f"/get-chat/{_segment(chat_id)}")

    def delete_call(self, call_id: str) -> Answer:
        """Delete a call permanently, with retries: deleting is idempotent. Raises RetellError,
        NotAtRetell if there is none."""
        return self._read("DELETE", f"/v2/delete-call/{_segment(call_id)}")

    def delete_chat(self, chat_id: str) -> Answer:
        """Delete a chat permanently, like `delete_call`. Raises RetellError, NotAtRetell if there
        is none."""
        return self._read("DELETE", f"/delete-chat/{_segment(chat_id)}")

    def update_call(self, call_id: str, body: Mapping[str, Any]) -> Answer:
        """Change `metadata`, `data_storage_setting` or `custom_attributes` of a call that is over.
        One request without retries, like all below. Raises RetellError."""
        return self._once("PATCH", f"/v2/update-call/{_segment(call_id)}", body)

    def update_live_call(self, call_id: str, body: Mapping[str, Any]) -> Answer:
        """Change an ongoing call: `call_control` and `fields_to_override`."""
        return self._once("PATCH", f"/v2/update-live-call/{_segment(call_id)}", body)

    def stop_call(self, call_id: str) -> Answer:
        """End a call now."""
        return self._once("POST", f"/v2/stop-call/{_segment(call_id)}")

    def listen_live_call(self, call_id: str) -> Answer:
        """The token for a browser to listen to an ongoing call, with `participant_id`."""
        return self._once("POST", f"/v2/listen-live-call/{_segment(call_id)}")

    def take_over_live_call(self, call_id: str, participant_id: str) -> Answer:
        """Let the listener `participant_id` speak instead of the agent."""
        body = {"participant_id": participant_id}
        return self._once("POST", f"/v2/take-over-live-call/{_segment(call_id)}", body)

    def rerun_call_analysis(self, call_id: str) -> Answer:
        """Analyse a call again, which Retell charges for; return the call with its new analysis."""
        return self._once("PUT", f"/rerun-call-analysis/{_segment(call_id)}")

    def register_phone_call(self, body: Mapping[str, Any]) -> Answer:
        """Register a call that your own telephony connects to an agent."""
        return self._once("POST", "/v2/register-phone-call", body)

    def create_web_call(self, body: Mapping[str, Any]) -> Answer:
        """Create a web call; return the token for a browser to join it."""
        return self._once("POST", "/v3/create-web-call", body)

    def create_batch_call(self, body: Mapping[str, Any]) -> Answer:
        """Let Retell place the calls of `tasks`, now or from `trigger_timestamp` on."""
        return self._once("POST", "/create-batch-call", body)

    def create_chat(self, body: Mapping[str, Any]) -> Answer:
        """Begin a chat by API."""
        return self._once("POST", "/create-chat", body)

    def create_sms_chat(self, body: Mapping[str, Any]) -> Answer:
        """Begin a chat by SMS."""
        return self._once("POST", "/create-sms-chat", body)

    def create_chat_completion(self, chat_id: str, content: str) -> Answer:
        """Send a message in a chat; `{messages}` are the agent's answers."""
        body = {"chat_id": chat_id, "content": content}
        return self._once("POST", "/create-chat-completion", body)

    def update_chat(self, chat_id: str, body: Mapping[str, Any]) -> Answer:
        """Change fields of a chat, as `update_call`; also `override_dynamic_variables`."""
        return self._once("PATCH", f"/update-chat/{_segment(chat_id)}", body)

    def end_chat(self, chat_id: str) -> Answer:
        """End a chat now."""
        return self._once("PATCH", f"/end-chat/{_segment(chat_id)}")

    def rerun_chat_analysis(self, chat_id: str) -> Answer:
        """Analyse a chat again, as `rerun_call_analysis`."""
        return self._once("PUT", f"/rerun-chat-analysis/{_segment(chat_id)}")

    def get_concurrency(self) -> Answer:
        """The limit and number of concurrent calls of the account."""
        return self._read("GET", "/get-concurrency")

    def list_export_requests(self, *, pagination_key: str | None = None) -> Answer:
        """One page of the exports that were requested in Retell's dashboard."""
        params = {"pagination_key": pagination_key} if pagination_key else None
        return self._read("GET", "/v2/list-export-requests", params=params)

    def export_requests(self) -> list[dict[str, Any]]:
        """All requested exports, from all pages."""
        pages = pages_of(lambda key: self.list_export_requests(pagination_key=key))
        return [item for answer in pages for item in items_of(answer, "exports")]

    def get_api_key_info(self) -> Answer:
        """The workspace and the name of the key."""
        return self._read("GET", "/get-api-key-info")

    def workspace(self) -> str | None:
        """The name of the key's workspace, with one request; None if Retell does not say. Raises
        RetellError."""
        try:
            info = self._once("GET", "/get-api-key-info").value
        except NotAtRetell:
            return None
        name = info.get("org_name") if isinstance(info, dict) else None
        return name if isinstance(name, str) and name else None

    def list_calls(self, body: Mapping[str, Any]) -> Answer:
        """One page: `{items, has_more, pagination_key?, total?}`, items without transcripts."""
        return self._read("POST", "/v3/list-calls", body)

    def list_chats(self, body: Mapping[str, Any]) -> Answer:
        """One page of chats, as `list_calls`."""
        return self._read("POST", "/v3/list-chats", body)

    def list_agents(self, *, pagination_key: str | None = None) -> Answer:
        """One page of `{items, has_more, pagination_key?}`, items with `channel`, voice or chat."""
        params = {"limit": str(PAGE)} | (
            {"pagination_key": pagination_key} if pagination_key else {}
        )
        return self._read("POST", "/v2/list-agents", {}, params=params)

    def agents(self) -> Iterator[dict[str, Any]]:
        """All agents, from all pages."""
        for answer in pages_of(lambda key: self.list_agents(pagination_key=key)):
            for item in items_of(answer, "agents"):
                if not isinstance(item.get("agent_id"), str):
                    raise UnexpectedAnswer("Retell lists an agent without agent_id", answered=200)
                yield item

    def get_agent(self, agent_id: str, *, channel: str = "voice") -> Answer:
        """The newest version of an agent's settings. Raises RetellError."""
        return self._read("GET", f"/get-{_kind(channel)}/{_segment(agent_id)}")

    def update_agent(
        self, agent_id: str, body: Mapping[str, Any], *, channel: str = "voice"
    ) -> Answer:
        """Change settings of an agent, with one request. Raises RetellError."""
        return self._once("PATCH", f"/update-{_kind(channel)}/{_segment(agent_id)}", body)

    def _read(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        for attempt in range(READ_ATTEMPTS):
            try:
                return self._once(method, path, body, params=params)
            except RetellError as error:
                if not error.retry or attempt == READ_ATTEMPTS - 1:
                    raise
                self.sleep(self.wait_seconds(error, attempt))
        raise AssertionError("unreachable")

    def wait_seconds(self, error: RetellError, attempt: int) -> float:
        """Seconds to wait after attempt `attempt` (from 0): the time in Retell's headers, else
        exponential backoff, half of it random."""
        if error.wait_seconds is not None:
            # Plus a random part, because other clients wait for the same time.
            return min(error.wait_seconds, MAX_WAIT_SECONDS) + self._chance()
        backoff = min(FIRST_BACKOFF_SECONDS * 2.0**attempt, MAX_WAIT_SECONDS)
        return backoff * (0.5 + self._chance() / 2)

    def _once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> Answer:
        started_at_ms = self.now_ms()
        content = None if body is None else compact(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            response = self._client.request(
                method, path, content=content, headers=headers, params=params
            )
        except UnusableAnswer as error:
            raise UnexpectedAnswer(f"Retell's response is {error}", answered=error.status) from None
        except httpx.HTTPError as error:
            # Only the class: the message can contain the URL, and with it ids.
            name = type(error).__name__
            if isinstance(error, _NOTHING_SENT):
                raise RetellUnreachable(f"no connection to Retell: {name}") from None
            raise RetellSilent(f"no response from Retell: {name}") from None
        if not response.is_success:
            raise error_of(response, body, now_ms=self.now_ms())
        try:
            value = json.loads(response.content) if response.content else None
        except (ValueError, RecursionError):
            raise UnexpectedAnswer(
                "Retell's response is not JSON", answered=response.status_code
            ) from None
        return Answer(response.status_code, response.content, value, started_at_ms)


def items_of(answer: Answer, what: str) -> list[dict[str, Any]]:
    """The items of a page. Raises UnexpectedAnswer."""
    items = answer.value.get("items") if isinstance(answer.value, dict) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise UnexpectedAnswer(f"Retell's list of {what} has no items", answered=answer.status)
    return items


def pages_of(page: Callable[[str | None], Answer]) -> Iterator[Answer]:
    """All pages; `page` requests one by its key, None for the first. Raises UnexpectedAnswer."""
    key: str | None = None
    seen: set[str] = set()
    while True:
        answer = page(key)
        yield answer
        key = next_key(answer, seen)
        if key is None:
            return


def next_key(answer: Answer, seen: set[str]) -> str | None:
    """The key of the next page, added to `seen`; None on the last. Raises UnexpectedAnswer."""
    if not answer.value.get("has_more"):
        return None
    key = answer.value.get("pagination_key")
    if not isinstance(key, str) or not key:
        raise UnexpectedAnswer(
            "Retell has more pages, but sent no pagination_key", answered=answer.status
        )
    if key in seen:
        raise UnexpectedAnswer("Retell repeated a pagination_key", answered=200)
    seen.add(key)
    return key


def _kind(channel: str) -> str:
    return "chat-agent" if channel == "chat" else "agent"


def _segment(text: str) -> str:
    """Escape an id as one segment of a path."""
    return quote(text, safe="")


ERRORS: dict[int, tuple[type[RetellError], str]] = {
    400: (BadRequest, "Retell rejected the request"),
    401: (KeyRefused, "Retell rejected the API key"),
    402: (PaymentRequired, "Retell requires a payment"),
    403: (KeyRefused, "the API key has no permission for this"),
    404: (NotAtRetell, "not found at Retell"),
    422: (UnusableReference, "Retell does not know a number, agent or version"),
    429: (RateLimited, "the account is rate-limited"),
}
_FAILED: tuple[type[RetellError], str] = (RetellFailed, "Retell failed")
_UNKNOWN = (UnexpectedAnswer, "not a status that Retell documents")
# Possible phone numbers, e-mail addresses and keys in Retell's message.
_PRIVATE = re.compile(r"(?<!\w)\+?\d[\d ().-]{3,}\d(?!\w)|\S+@\S+|\bkey_\w+")
_MAX_MESSAGE = 200


def error_of(
    response: httpx.Response, body: Mapping[str, Any] | None, *, now_ms: int
) -> RetellError:
    """Map an HTTP error response to a RetellError; `body` is the request's.

    Its message contains Retell's, without personal data.
    """
    status = response.status_code
    if status >= 500:
        kind, what = _FAILED
    else:
        kind, what = ERRORS.get(status, _UNKNOWN)
    message = _message(response, body)
    return kind(
        f"{what} ({status})" + (f": {message}" if message else ""),
        answered=status,
        wait_seconds=_retry_after(response.headers, now_ms=now_ms),
    )


def _retry_after(headers: httpx.Headers, *, now_ms: int) -> float | None:
    """Seconds until the next attempt, by the headers; None without them.

    Both headers count seconds from now; a number over 10^9 is seconds since the epoch.
    """
    for name in ("Retry-After", "RateLimit-Reset"):
        text = headers.get(name, "").strip()
        if re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", text):
            seconds = float(text)
            return max(0.0, seconds - now_ms / 1000) if seconds > 1_000_000_000 else seconds
    return None


def _message(response: httpx.Response, body: Mapping[str, Any] | None) -> str:
    """Retell's message, without values of the request and possible numbers, addresses and keys."""
    try:
        message = json.loads(response.content)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    if not isinstance(message, str):
        return ""
    for text in sorted(set(_texts(body)), key=len, reverse=True):
        message = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", "…", message)
    printable = "".join(c if c.isprintable() else " " for c in _PRIVATE.sub("…", message))
    return printable[:_MAX_MESSAGE]


def _texts(value: Any) -> Iterator[str]:
    """Every string in a value."""
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _texts(child)
    elif isinstance(value, list):
        for child in value:
            yield from _texts(child)
