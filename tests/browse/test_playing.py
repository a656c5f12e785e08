"""A kept recording in a real browser: played from anywhere, and downloaded."""

from contextlib import closing

import pytest

from receiver import config
from receiver.sandbox.recordings import recording
from receiver.store import Store, migrate
from tests.support import running
from tests.support.browsing import NEEDS_BROWSER, simple, until
from tests.support.recording import LINKS, PASSWORD, keep_file, kept_environ
from tests.support.storing import stored

pytestmark = NEEDS_BROWSER


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of a Datasette with a call of a minute whose recording is kept."""
    root = tmp_path_factory.mktemp("site")
    path = root / "retell.db"
    migrate(path, timezone="UTC")
    variables = kept_environ(path, root)
    words = [{"word": f"w{n} ", "start": n, "end": n + 0.5} for n in range(60)]
    turn = {"role": "agent", "content": "".join(w["word"] for w in words), "words": words}
    call = simple("call_1", duration_ms=60_000, transcript_with_tool_calls=[turn], **LINKS)
    with closing(Store(path)) as store:
        stored(store, call)
        keep_file(store, config.load(variables), recording(call["call"], stereo=False))
    address = running.free_address()
    values = running.environment(CALLHOUSE_BROWSE_BIND=address, **variables)
    with running.browse(values, root):
        yield f"http://{address}"


def test_browser_plays_and_seeks_the_kept_copy(site, chromium):
    context = chromium.new_context(base_url=site)
    page = context.new_page()
    messages, answers = [], []
    page.on("console", lambda m: m.type in ("error", "warning") and messages.append(m.text))
    page.on("response", lambda r: "/-/media/" in r.url and answers.append(r))
    page.route("https://**/*", lambda route: route.abort())
    page.goto("/-/login?next=/-/call/call_1")
    page.fill("#id_username", "admin")
    page.fill("#id_password", PASSWORD)
    page.click("input[type=submit]")
    page.wait_for_selector(".player")

    until(page, "document.querySelector('audio').readyState > 0")
    assert page.evaluate("document.querySelector('audio').duration") == pytest.approx(60, abs=0.1)
    page.click(".said >> text=w40")
    until(page, "document.querySelector('audio').currentTime > 40.2")
    until(page, "document.querySelector('.spoken')?.textContent.startsWith('w4')")
    assert {answer.status for answer in answers} == {206}
    assert messages == []
    with page.expect_download() as download:
        page.click(".downloads a")
    assert download.value.suggested_filename == "call_1-recording.wav"
    context.close()
