"""Webhook URLs of an account's agents: list them, set them, and check that one works.

The check posts a signed test event, which the receiver verifies and does not store.
"""

import hashlib
import json
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from types import NoneType
from typing import Any
from urllib.parse import urlsplit

import httpx

from receiver import clock
from receiver.addresses import is_http_url
from receiver.errors import SettingsError, UnexpectedAnswer
from receiver.retell.client import Retell
from receiver.retell.http import Client, UnusableAnswer, compact, post
from receiver.webhook.signature import BODY_HEADER, OUTCOME_HEADER, PROBE_EVENT


@dataclass(frozen=True, slots=True)
class AgentWebhook:
    """The webhook of an agent's newest version; without a URL, the account's applies."""

    agent_id: str
    agent_name: str | None
    channel: str
    version: int | None
    is_published: bool | None
    webhook_url: str | None
    webhook_events: list[str] | None


def agent_webhooks(retell: Retell) -> Iterator[AgentWebhook]:
    """The webhook of every agent of the account, one request each. Raises RetellError."""
    for item in retell.agents():
        channel = str(item.get("channel") or "voice")
        yield _webhook(retell.get_agent(item["agent_id"], channel=channel).value, channel)


def set_webhook(retell: Retell, agent_id: str, url: str, *, channel: str) -> AgentWebhook:
    """Set an agent's webhook URL and return the agent's new webhook. Raises RetellError."""
    answer = retell.update_agent(agent_id, {"webhook_url": url}, channel=channel)
    return _webhook(answer.value, channel)


def channel_of(retell: Retell, agent_id: str) -> str:
    """The channel of an agent, voice or chat. Raises SettingsError for an unknown agent."""
    for item in retell.agents():
        if item["agent_id"] == agent_id:
            return str(item.get("channel") or "voice")
    raise SettingsError(
        f"the account has no agent {agent_id}", hint="`callhouse webhook show` lists them."
    )


def require_url(url: str) -> None:
    """Raise SettingsError if it is not valid."""
    # It may contain dynamic variables.
    if not is_http_url(re.sub(r"\{\{.*?\}\}", "x", url)):
        raise SettingsError("not a valid URL", hint="Write it as https://HOST/webhook.")


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "agent_id": str,
    "agent_name": (str, NoneType),
    "version": (int, NoneType),
    "is_published": (bool, NoneType),
    "webhook_url": (str, NoneType),
    "webhook_events": (list, NoneType),
}


def _webhook(agent: Any, channel: str) -> AgentWebhook:
    """Raises UnexpectedAnswer."""
    if not isinstance(agent, dict):
        raise UnexpectedAnswer("Retell's agent is not an object", answered=200)
    for name, kinds in _FIELDS.items():
        if not isinstance(agent.get(name), kinds):
            raise UnexpectedAnswer(f"Retell's agent has no usable {name}", answered=200)
    return AgentWebhook(
        agent_id=agent["agent_id"],
        agent_name=agent.get("agent_name"),
        channel=channel,
        version=agent.get("version"),
        is_published=agent.get("is_published"),
        webhook_url=agent.get("webhook_url") or None,
        webhook_events=agent.get("webhook_events"),
    )


# A proxy that re-encodes JSON usually escapes these; Retell does not.
_TEXT = "Grüße aus Zürich ☎"
# The size of a call of two hours; many proxies reject more than one megabyte.
LARGE_BYTES = 2_500_000
# The same as Retell. Source: https://docs.retellai.com/features/webhook-overview
TIMEOUT_SECONDS = 10.0
SLOW_SECONDS = 3.0
SKEW_NOTED_MS = 5_000
SKEW_WRONG_MS = 60_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding of a check, with a hint if something is wrong."""

    is_wrong: bool
    what: str
    hint: str = ""


def probe_body(nonce: str, *, filling: int = 0) -> bytes:
    """The test event with `filling` bytes of padding."""
    return compact({"event": PROBE_EVENT, "nonce": nonce, "text": _TEXT + "." * filling})


def check_webhook_url(
    url: str,
    *,
    key: str,
    nonce: str,
    now_ms: Callable[[], int] = clock.now_ms,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> list[Finding]:
    """Post the test event to `url`, small and then as large as a long call."""
    try:
        require_url(url)
    except SettingsError as error:
        return [Finding(True, str(error), error.hint)]
    found = _about_address(url)
    # Sending a large body may take longer than the response.
    with Client(total_seconds=3 * timeout_seconds, timeout=timeout_seconds) as client:
        for filling in (0, LARGE_BYTES):
            body, at_ms = probe_body(nonce, filling=filling), now_ms()
            try:
                response = post(client, url, body, key=key, at_ms=at_ms)
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                found.append(_about_failure(error, timeout_seconds))
                break
            found += _about_answer(response, body, at_ms=at_ms, now_ms=now_ms())
            if any(f.is_wrong for f in found):
                break
    return found


def _about_address(url: str) -> list[Finding]:
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        is_private = host == "localhost" or not ip_address(host).is_global
    except ValueError:
        is_private = False
    if is_private:
        return [Finding(False, "a private address: Retell cannot reach it")]
    if parts.scheme != "https":
        return [Finding(False, "the URL is not https: calls are sent unencrypted")]
    return []


def _about_failure(error: Exception, timeout_seconds: float) -> Finding:
    if isinstance(error, httpx.ReadTimeout | httpx.WriteTimeout):
        return Finding(
            True,
            f"no response within {timeout_seconds:g} seconds",
            "Retell times out after 10 seconds and retries: find the cause of the delay.",
        )
    if isinstance(error, httpx.InvalidURL):
        return Finding(True, "not a valid URL", "Write it as https://HOST/webhook.")
    if isinstance(error, UnusableAnswer):
        return Finding(True, f"the response is {error}", "The URL does not lead to callhouse.")
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if cause is not None:
        reason = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or "handshake"
        return Finding(
            True,
            f"the TLS connection fails: {reason}",
            "Install a certificate of a public authority on the proxy, with the full chain.",
        )
    return Finding(
        True,
        f"no connection: {type(error).__name__}",
        "Check the host name, the port, the firewall, and that the proxy or tunnel runs.",
    )


def _about_answer(
    response: httpx.Response, body: bytes, *, at_ms: int, now_ms: int
) -> list[Finding]:
    """The findings from the response to `body`, signed at `at_ms` and answered by `now_ms`."""
    status, answer = response.status_code, _json(response)
    outcome = response.headers.get(OUTCOME_HEADER)
    if response.is_redirect:
        return [
            Finding(
                True,
                f"a redirect ({status}) to {response.headers.get('Location', 'nowhere')}",
                "A redirected POST loses its body: register the final URL.",
            )
        ]
    if response.is_success and isinstance(answer.get("callhouse"), dict):
        return _about_success(response, answer["callhouse"], body, at_ms=at_ms, now_ms=now_ms)
    if outcome == "forged":
        return [_about_forged(response, body)]
    if outcome == "stale":
        skew = _skew_text(_date_ms(response), at_ms)
        hint = "Synchronise the clocks of both machines by NTP."
        return [Finding(True, f"the clocks differ too much: {skew}", hint)]
    if outcome in ("missing", "malformed"):
        return [
            Finding(
                True,
                f"the X-Retell-Signature header arrives {outcome}",
                "Let the proxy forward it unchanged.",
            )
        ]
    return [_about_other(response, outcome)]


def _about_success(
    response: httpx.Response, answer: dict[str, Any], body: bytes, *, at_ms: int, now_ms: int
) -> list[Finding]:
    seconds = response.elapsed.total_seconds()
    size = f"{len(body) / 1e6:.1f} MB" if len(body) > 100_000 else f"{len(body)} bytes"
    found = [Finding(False, f"{size} arrived unchanged and verified in {seconds * 1000:.0f} ms")]
    if seconds >= SLOW_SECONDS:
        hint = f"Retell times out after {TIMEOUT_SECONDS:g} seconds: find the cause of the delay."
        found.append(Finding(seconds >= TIMEOUT_SECONDS, f"slow: {seconds:.1f} seconds", hint))
    received_at_ms = answer.get("received_at_ms")
    if isinstance(received_at_ms, int):
        # The receiver's clock was read between the two times: a difference within them is not a
        # skew.
        skew = received_at_ms - min(max(received_at_ms, at_ms), now_ms)
        if abs(skew) >= SKEW_NOTED_MS:
            what = f"the clocks differ: {_skew_text(at_ms + skew, at_ms)}"
            hint = "Synchronise both by NTP: with five minutes, events are rejected."
            found.append(Finding(abs(skew) >= SKEW_WRONG_MS, what, hint))
    return found


def _about_forged(response: httpx.Response, body: bytes) -> Finding:
    if response.headers.get(BODY_HEADER) == hashlib.sha256(body).hexdigest():
        return Finding(
            True,
            "the receiver has another key",
            "Set the receiver's RETELL_API_KEY to the key that this command uses, the one with the "
            "webhook badge, or add it to RETELL_WEBHOOK_KEYS.",
        )
    return Finding(
        True,
        "the body is changed on the way",
        "A proxy re-encodes the body: let it forward the bytes unchanged.",
    )


def _about_other(response: httpx.Response, outcome: str | None) -> Finding:
    status = response.status_code
    if status == 413:
        what, hint = (
            "a body of this length is rejected (413)",
            (
                "Raise CALLHOUSE_MAX_BODY_BYTES."
                if outcome == "too_large"
                else "Let the proxy accept bodies of 16 MB (nginx: client_max_body_size)."
            ),
        )
    elif status in (404, 405):
        what, hint = f"no webhook at this path ({status})", "The path is /webhook."
    elif status in (401, 403):
        what, hint = (
            f"a proxy rejects the request ({status})",
            "Allow /webhook without a login or an IP list: the signature authenticates it.",
        )
    elif status >= 500:
        what, hint = (
            f"the server fails ({status})",
            "Check the receiver's log, /healthz, and the proxy's upstream address.",
        )
    else:
        what, hint = (
            f"the response is {status}, but not callhouse's",
            "Register the URL of callhouse's /webhook, and update callhouse there.",
        )
    return Finding(True, what, hint)


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        value = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _date_ms(response: httpx.Response) -> int | None:
    try:
        return int(parsedate_to_datetime(response.headers.get("Date", "")).timestamp() * 1000)
    except ValueError:
        return None


def _skew_text(receiver_ms: int | None, local_ms: int) -> str:
    if receiver_ms is None:
        return "by an unknown amount"
    seconds = round((receiver_ms - local_ms) / 1000)
    return f"the receiver's is {abs(seconds)} seconds {'ahead' if seconds > 0 else 'behind'}"
