"""`make screenshots`: pictures of README and docs, from made-up weeks of calls. Needs Chromium."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from random import Random

import httpx
from playwright.sync_api import Page, Route, sync_playwright

from receiver import config
from receiver.clock import now_ms
from receiver.jobs.alert_rules import Budget
from receiver.jobs.digest import as_html, read_digest
from receiver.sandbox.companies import Account
from receiver.sandbox.days import past_calls
from receiver.sandbox.wire import webhook_body
from receiver.store import Store, migrate, receive
from receiver.store.alerts import Alert, write_run
from receiver.store.connection import connect_readonly

FOLDER = Path(__file__).parent / "images"
ADDRESS = "127.0.0.1:8099"
PASSWORD = "for the pictures"
LAST_DAY_MS = 1_778_544_000_000
DAY_MS = 86_400_000
DAYS = 60
DAY = date(2026, 5, 12)
# Open alerts: rule, severity, text, how many hours ago it opened, who acknowledged it.
ALERTS = (
    ("silence", "critical",
     "No event for 96 minutes. In this time of the week, at least 15 calls usually begin", 1, None),
    ("tools", "warning",
     "check_availability of agent_4c1f, version 7: 41 % of 56 uses failed in the last day, "
     "usually 5 %", 5, "rita"),
    ("budget", "warning",
     "Budget clinic: 83 % of $144.00 for 2026-05 is spent; at this pace, all of it on 2026-05-14",
     20, None),
)  # fmt: skip
WEEK = (52, 61, 58, 64, 66, 44, 40)
# A call with something to see: words, a tool that failed, somebody interrupted.
CALL = """
SELECT call_id FROM call_metrics JOIN calls USING (call_id)
WHERE agent_name LIKE 'Nora%' AND tool_calls > 2 AND interruptions > 0 AND direction = 'inbound'
ORDER BY failed_tool_calls DESC, start_timestamp DESC LIMIT 1
"""


def fill(database: Path) -> str:
    """Store the weeks; return the id of the call to show."""
    migrate(database, timezone="UTC")
    store = Store(database)
    account = Account(Random(0))
    for n in range(DAYS):
        for at_ms, body in a_day(n, account):
            store.add(receive(body, source="webhook", observed_at=at_ms, received_at=at_ms))
    write_run(store, [an_alert(*each) for each in ALERTS], [], [])
    store.close()
    connection = connect_readonly(database)
    call_id: str = connection.execute(CALL).fetchone()[0]
    connection.close()
    return call_id


def an_alert(rule: str, severity: str, text: str, hours: int, user: str | None) -> Alert:
    """An open alert."""
    at_ms = now_ms() - hours * 3_600_000
    return Alert(
        f"alert_{rule}", rule, "", severity, text, "{}", "/-/status", None, at_ms, at_ms, at_ms,
        acknowledged_by=user, acknowledged_at=at_ms + 600_000 if user else None,
    )  # fmt: skip


def a_digest(database: Path) -> str:
    """The digest of the last day as a mail client shows it."""
    settings = config.load({"CALLHOUSE_DATABASE_URL": f"sqlite:///{database}"})
    alerts = replace(settings.file.alerts, budgets=(Budget("clinic", 144.0),))
    settings = replace(settings, file=replace(settings.file, alerts=alerts))
    return as_html(read_digest(settings, DAY, now_ms=now_ms()), "https://calls.example.com")


def a_day(n: int, account: Account) -> Iterator[tuple[int, bytes]]:
    """What is reported of a day, in the order of its calls; the same agents on each day."""
    start, rng = LAST_DAY_MS - (DAYS - 1 - n) * DAY_MS, Random(n)
    for call, _, reported in past_calls(rng, account, start, WEEK[n % 7] + n // 3):
        for sent in reported:
            # Of the days before the last, only how each call ended: a tidy past.
            if n == DAYS - 1 or sent.name == "call_analyzed":
                body = webhook_body(sent, call.plan.agent.event_timestamps)
                yield sent.at_ms, body


@contextmanager
def browsing(database: Path) -> Iterator[None]:
    """Run `callhouse browse` on the file."""
    environ = os.environ | {
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{database}",
        "CALLHOUSE_BROWSE_BIND": ADDRESS,
        "CALLHOUSE_BROWSE_PASSWORD": PASSWORD,
        "CALLHOUSE_TIMEZONE": "UTC",
    }
    process = subprocess.Popen([sys.executable, "-m", "receiver", "browse"], env=environ)
    try:
        while process.poll() is None:
            try:
                httpx.get(f"http://{ADDRESS}/")
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        process.wait()


def silence(route: Route) -> None:
    """Answer for the host of the recordings, which does not exist."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(3000)
        sound.writeframes(b"\x80" * 3000 * 120)
    route.fulfill(body=buffer.getvalue(), headers={"Content-Type": "audio/wav"})


def take(page: Page, call_id: str, digest: str) -> None:
    """Log in and take the pictures."""
    page.route("https://**/*.wav", silence)
    page.goto("/-/login")
    page.fill("#id_username", "admin")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    pictures = {
        "home": "/",
        "call": f"/-/call/{call_id}",
        "calls": '/-/calls?q="check-up" OR refund -voicemail',
        "dashboard": "/-/dashboards/volume",
        "versions": "/-/dashboards/versions",
        "alerts": "/-/alerts",
        "statement": f"/-/statement?month={DAY:%Y-%m}&by=agent&markup=20",
        "review": f"/-/review?day={DAY}",
    }
    for name, path in pictures.items():
        page.goto(path)
        page.wait_for_load_state("networkidle")
        if name == "call":
            page.click(".turn .tool summary")
            page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=FOLDER / f"{name}.png", full_page=name == "dashboard")
    # Without the Content-Security-Policy of our pages, as a mail client has it.
    page.goto("about:blank")
    page.set_viewport_size({"width": 600, "height": 200})
    page.set_content(digest)
    page.screenshot(path=FOLDER / "digest.png", full_page=True)


def main() -> None:
    """Fill, serve, take."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "retell.db"
        call_id = fill(database)
        digest = a_digest(database)
        with browsing(database), sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            size = {"width": 1200, "height": 840}
            take(chromium.new_page(base_url=f"http://{ADDRESS}", viewport=size), call_id, digest)
            chromium.close()


if __name__ == "__main__":
    main()
