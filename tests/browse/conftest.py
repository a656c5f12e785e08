"""Fixtures of tests that read pages, as text or in a browser."""

import re
from contextlib import closing
from dataclasses import replace

import pytest

from receiver.store import Store, migrate
from tests.support import running
from tests.support.browsing import PASSWORD, START, add_users, log_in, play, tone, visiting
from tests.support.days import day, deliver
from tests.support.spoken import SPOKEN_SECONDS, chat_with_tools, spoken_call
from tests.support.storing import stored


@pytest.fixture
def browse(settings):
    """Get a page as admin, times in Berlin's zone."""
    with visiting(replace(settings, timezone="Europe/Berlin")) as get:
        yield get


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Address of a Datasette with a made-up day, and the call and chat of spoken.py."""
    path = tmp_path_factory.mktemp("site") / "retell.db"
    migrate(path, timezone="UTC")
    with closing(Store(path)) as store:
        deliver(store, day(2, day_start_ms=START, calls=60))
        stored(store, {"event": "call_ended", "call": spoken_call()}, at=START + 10**8)
        stored(store, {"event": "chat_ended", "chat": chat_with_tools()}, at=START)
        # Periods are compared with those before if calls are older than both.
        before = {"call_id": "call_before", "start_timestamp": START - 70 * 86_400_000}
        stored(store, {"event": "call_ended", "call": before}, at=START)
    add_users(path, {"max": "masked"})
    with running.site(path, PASSWORD) as url:
        yield url


@pytest.fixture
def page(site, chromium, request):
    """A page after the login. What the console says, and hosts that are asked, are collected."""
    options = dict(getattr(request, "param", {}))
    user = options.pop("user", "admin")
    context = chromium.new_context(base_url=site, **options)
    page = context.new_page()
    page.messages, page.requests = [], []
    page.on("console", lambda m: m.type in ("error", "warning") and page.messages.append(m.text))
    page.on("pageerror", lambda error: page.messages.append(str(error)))
    page.on("request", lambda r: page.requests.append(re.match(r"\w+://[^/]*", r.url)[0]))
    sound = tone(SPOKEN_SECONDS)
    page.route("https://**/*.wav", lambda route: play(route, sound))
    log_in(page, user)
    yield page
    context.close()
