"""Deliver messages with apprise, which supports Slack, Teams, e-mail, Telegram and many others.

In: due rows of notifications, and the configured URLs, which are secrets: they are neither stored
nor logged. Out: delivered messages. A failed one is retried with growing pauses. Two jobs deliver,
alerts and digest, so a message is claimed before it is sent.
"""

import hashlib
import logging
from dataclasses import replace
from typing import Any

from receiver.errors import SettingsError
from receiver.jobs.worker import Run
from receiver.store.alerts import Message, claim_message, due_messages, write_attempt
from receiver.store.engine import reading

# The first pause of a message that was not accepted, which doubles, and the longest one.
FIRST_PAUSE_MS, LAST_PAUSE_MS = 30_000, 3_600_000
UNKNOWN_URL = "apprise does not know this kind of URL, or a part of it is missing"
# A message is given up after this time.
MAX_AGE_MS = 2 * 86_400_000


def target_of(url: str) -> str:
    """The stored form of a URL."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def deliver(run: Run) -> list[str]:
    """Send the messages that are due; return what is wrong. Raises Stopped, StoreUnavailable."""
    with reading(run.settings.database) as connection:
        now_ms = run.now_ms()
        due = due_messages(connection, now_ms=now_ms, latest_ms=now_ms + LAST_PAUSE_MS)
    if not due:
        return []
    urls = {target_of(url): url for url in run.settings.file.alerts.urls}
    failed = 0
    for message in due:
        run.check()
        if not claim_message(run.store, message, until_ms=run.now_ms() + FIRST_PAUSE_MS):
            continue
        problem = send(urls.get(message.target), message)
        failed += problem is not None
        write_attempt(run.store, after(message, problem, now_ms=run.now_ms()))
    return [f"{failed:,} messages could not be delivered: see /-/alerts"] if failed else []


def after(message: Message, problem: str | None, *, now_ms: int) -> Message:
    """The message after an attempt."""
    attempts = message.attempts + 1
    if problem is None:
        return replace(
            message, state="sent", attempts=attempts, next_attempt_at=None, sent_at=now_ms,
            problem=None,
        )  # fmt: skip
    pause_ms = min(FIRST_PAUSE_MS * 2 ** min(attempts - 1, 20), LAST_PAUSE_MS)
    is_dead = now_ms - message.created_at >= MAX_AGE_MS
    return replace(
        message,
        state="dead" if is_dead else "waiting",
        attempts=attempts,
        next_attempt_at=None if is_dead else now_ms + pause_ms,
        problem=problem,
    )


def send(url: str | None, message: Message) -> str | None:
    """Send a message to a URL; return why it could not be sent, without the URL."""
    if url is None:
        return "its URL is no longer in the configuration"
    apprise = load_apprise()
    try:
        service = apprise.Apprise.instantiate(url)
        if service is None:
            return UNKNOWN_URL
        # Some services accept several formats; mail is HTML only.
        is_html = message.html is not None and service.notify_format == apprise.NotifyFormat.HTML
        sender = apprise.Apprise()
        sender.add(service)
        is_sent = sender.notify(
            title=message.title,
            body=message.html if is_html else message.body,
            body_format=apprise.NotifyFormat.HTML if is_html else apprise.NotifyFormat.TEXT,
        )
    except Exception as error:
        # An error within a plugin. Its message may contain the URL.
        return f"apprise failed: {type(error).__name__}"
    return None if is_sent else "it was not accepted"


def load_apprise() -> Any:
    """Load the library and disable its log, which may contain parts of URLs.

    Raises SettingsError if it is not installed.
    """
    try:
        import apprise
    except ImportError:
        raise SettingsError(
            "apprise is not installed, so no message is sent",
            hint="Install it with `pip install 'callhouse[alerts]'`, or empty alerts.notify.",
        ) from None
    for name in ("apprise", "urllib3.connectionpool"):
        logging.getLogger(name).disabled = True
    return apprise
