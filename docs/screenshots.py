"""`make screenshots`: the README's pictures, from made-up weeks of calls. Needs Chromium."""

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
from pathlib import Path
from random import Random

import httpx
from playwright.sync_api import Page, Route, sync_playwright

from receiver.sandbox.companies import Account
from receiver.sandbox.days import past_calls, webhook_body
from receiver.store import Store, migrate, receive
from receiver.store.reading import connect_readonly

FOLDER = Path(__file__).parent / "images"
ADDRESS = "127.0.0.1:8099"
PASSWORD = "for the pictures"
LAST_DAY_MS = 1_778_544_000_000
DAY_MS = 86_400_000
DAYS = 60
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
    store.close()
    connection = connect_readonly(database)
    call_id: str = connection.execute(CALL).fetchone()[0]
    connection.close()
    return call_id


def a_day(n: int, account: Account) -> Iterator[tuple[int, bytes]]:
    """What is reported of a day, in the order of its calls; the same agents on each day."""
    start, rng = LAST_DAY_MS - (DAYS - 1 - n) * DAY_MS, Random(n)
    for call, _, reported in past_calls(rng, account, start, WEEK[n % 7] + n // 3):
        for sent, _ in reported:
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


def take(page: Page, call_id: str) -> None:
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
    }
    for name, path in pictures.items():
        page.goto(path)
        page.wait_for_load_state("networkidle")
        if name == "call":
            page.click(".turn .tool summary")
            page.evaluate("window.scrollTo(0, 0)")
        page.screenshot(path=FOLDER / f"{name}.png", full_page=name == "dashboard")


def main() -> None:
    """Fill, serve, take."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "retell.db"
        call_id = fill(database)
        with browsing(database), sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            size = {"width": 1200, "height": 840}
            take(chromium.new_page(base_url=f"http://{ADDRESS}", viewport=size), call_id)
            chromium.close()


if __name__ == "__main__":
    main()
