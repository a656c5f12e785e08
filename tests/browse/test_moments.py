"""The player of a call's page and links to its moments, in a real browser."""

import io
import re
import wave
from contextlib import closing

import pytest

from receiver.store import Store, migrate
from tests.support import running
from tests.support.browsing import NEEDS_BROWSER, PASSWORD, log_in, play, simple, until
from tests.support.storing import stored

pytestmark = NEEDS_BROWSER
SECONDS = 40
# A silence from 3 s to 30 s.
SPOKEN = (("agent", "Hello.", 1), ("user", "A crown please.", 2), ("agent", "Of course.", 30))


def silence() -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(8000)
        sound.writeframes(b"\x80" * 8000 * SECONDS)
    return buffer.getvalue()


def call(call_id, **fields):
    turns = [
        {"role": role, "content": text, "words": [{"word": text, "start": at, "end": at + 1}]}
        for role, text, at in SPOKEN
    ]
    return simple(
        call_id, transcript_with_tool_calls=turns, duration_ms=SECONDS * 1000, **fields
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Address of a Datasette with a call, one whose recording is gone, and a long one."""
    path = tmp_path_factory.mktemp("site") / "retell.db"
    migrate(path, timezone="UTC")
    long = [
        {
            "role": "user",
            "content": f"line {n}",
            "words": [{"word": f"line {n}", "start": float(n), "end": n + 0.5}],
        }
        for n in range(2100)
    ]
    with closing(Store(path)) as store:
        stored(store, call("call_1", recording_url="https://recordings.example/here.wav"))
        stored(store, call("call_2", recording_url="https://recordings.example/gone.wav"))
        stored(store, simple("call_3", transcript_with_tool_calls=long))
    with running.site(path, PASSWORD) as url:
        yield url


@pytest.fixture(scope="module")
def session(site, chromium):
    """The cookies of a login."""
    with closing(chromium.new_context(base_url=site)) as context:
        page = context.new_page()
        log_in(page)
        return context.storage_state()


@pytest.fixture
def page(site, session, chromium, request):
    """A page after the login; the recording of call_1 is silence, others are missing."""
    options = {
        "permissions": ["clipboard-read", "clipboard-write"],
        **getattr(request, "param", {}),
    }
    context = chromium.new_context(base_url=site, storage_state=session, **options)
    page = context.new_page()
    sound = silence()

    def answer(route):
        play(route, sound) if "here" in route.request.url else route.fulfill(status=403)

    page.route("https://**/*.wav", answer)
    yield page
    context.close()


def at(page, second, within=2.0):
    """Wait until the player is at a second, or shortly after it."""
    now = "document.querySelector('audio').currentTime"
    until(page, f"{now} >= {second} && {now} < {second + within}")


def opened(page, call_id, fragment=""):
    page.goto(f"/-/call/{call_id}{fragment}")
    return page


def test_link_to_second_seeks_and_marks_turn(page):
    opened(page, "call_1", "#t=31")
    until(page, "document.querySelector('audio').readyState > 0")
    at(page, 31, within=0.1)
    assert page.eval_on_selector(".here", "turn => turn.id") == "turn-2"
    assert page.eval_on_selector("audio", "player => player.paused")
    assert page.inner_text(".clock") == "0:31 / 0:40"


def test_length_is_shown_before_recording_is_there(page):
    page.route("https://**/*.wav", lambda _: None)
    page.goto("/-/call/call_1", wait_until="commit")
    page.wait_for_selector("body.hearable", state="attached")
    until(page, "document.querySelector('.clock').textContent === '0:00 / 0:40'")


def test_link_to_turn_seeks_and_marks_it(page):
    opened(page, "call_1", "#turn-1")
    at(page, 2, within=0.1)
    assert page.eval_on_selector(".here", "turn => turn.id") == "turn-1"


def test_copying_link_to_turn_takes_one_click(page, site):
    opened(page, "call_1")
    page.click("#turn-2 .copy")
    page.wait_for_selector("#turn-2 .copy.copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url == f"{site}/-/call/call_1#turn-2"


def test_turn_is_reviewed_by_its_link(page, site):
    opened(page, "call_1")
    page.hover("#turn-2")
    with page.expect_navigation():
        page.click("#turn-2 .review-turn")
    assert page.url == f"{site}/-/call/call_1?at=2&turn=2#review"


def test_clicked_time_is_in_the_address(page):
    opened(page, "call_1")
    page.click("#turn-2 .at")
    at(page, 30)
    assert page.url.endswith("/-/call/call_1#turn-2")
    page.click("#turn-1 .said span")
    at(page, 2)
    assert page.url.endswith("/-/call/call_1#t=2")


@pytest.mark.slow
def test_link_to_turn_of_later_page_opens_it(page):
    opened(page, "call_3", "#turn-2050")
    page.wait_for_selector("#turn-2050.here")
    assert page.url.endswith("/-/call/call_3?at=2050#turn-2050")
    assert page.get_attribute("#turn-2051 .copy", "href") == "?at=2051#turn-2051"


def test_link_to_second_of_later_page_opens_it(page):
    opened(page, "call_3", "#t=2050.7")
    page.wait_for_selector("#turn-2050.here")
    assert page.url.endswith("/-/call/call_3?t=2050.7#t=2050.7")
    opened(page, "call_3", "#t=3")
    page.wait_for_selector("#turn-3.here")


def test_player_is_used_by_keyboard(page):
    opened(page, "call_1")
    until(page, "document.querySelector('audio').readyState > 0")
    page.keyboard.press("ArrowRight")
    at(page, 5, within=0.1)
    page.keyboard.press("ArrowLeft")
    at(page, 0, within=0.1)
    page.keyboard.press("n")
    at(page, 1, within=0.1)
    page.focus(".scrub")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    at(page, 4, within=0.1)
    page.select_option("[name=speed]", "2")
    assert page.eval_on_selector("audio", "player => player.playbackRate") == 2
    page.focus("[data-do=play]")
    page.keyboard.press("Enter")
    until(page, "document.querySelector('[data-do=play]').textContent === 'Pause'")


def test_silence_is_skipped(page):
    opened(page, "call_1", "#t=4")
    until(page, "document.querySelector('audio').readyState > 0")
    page.check("[name=skip]")
    page.click("[data-do=play]")
    at(page, 29.6, within=8)


def test_bar_is_the_scrubber(page):
    opened(page, "call_1")
    until(page, "document.querySelector('audio').readyState > 0")
    box = page.query_selector(".bar svg").bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40, steps=4)
    at(page, SECONDS / 2, within=0.5)
    page.mouse.up()
    at(page, SECONDS / 2)
    assert re.search(r"#t=(20.0|19.9|20.1)$", page.url)


def test_call_is_reviewed_with_note_in_three(page):
    opened(page, "call_1")
    page.click("text=Bad")
    page.fill("[name=note]", "Promised a refund.")
    with page.expect_navigation():
        page.click("text=Save review")
    assert page.url.endswith("/-/call/call_1#review")
    assert page.inner_text(".remarks .is-verdict .text") == "Bad"
    assert page.inner_text(".remarks .is-note .text") == "Promised a refund."


def test_queue_is_reviewed_by_keys(page, site):
    page.goto("/-/review?day=2026-05-12")
    page.keyboard.press("j")
    page.keyboard.press("j")
    row = page.evaluate("document.activeElement.id")
    with page.expect_navigation():
        page.keyboard.press("1")
    page.wait_for_selector(f".reviewed #{row}")
    until(page, f"document.activeElement.id === '{row}'")
    with page.expect_navigation():
        page.keyboard.press("Enter")
    assert page.url.startswith(f"{site}/-/call/{row}?queue=")
    with page.expect_navigation():
        page.keyboard.press("j")
    other = page.url
    assert f"/-/call/{row}" not in other
    with page.expect_navigation():
        page.keyboard.press("3")
    assert page.inner_text(".remarks .is-unsure .text") == "Unsure"
    assert page.url == f"{other}#review"


def test_player_says_when_recording_is_gone(page):
    opened(page, "call_2", "#turn-2")
    page.wait_for_selector(".dead")
    assert "expired" in page.inner_text(".dead")
    assert not page.is_visible(".player")
    assert page.eval_on_selector(".here", "turn => turn.id") == "turn-2"


@pytest.mark.parametrize("page", [{"viewport": {"width": 390, "height": 844}}], indirect=True)
def test_player_stays_in_reach_on_a_phone(page):
    opened(page, "call_1")
    page.wait_for_selector(".player")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    box = page.query_selector(".player").bounding_box()
    assert 700 < box["y"] < 844
