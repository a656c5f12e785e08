"""Datasette as callhouse serves it, in process, a visitor, simple calls, and a real browser."""

import asyncio
import html
import importlib.util
import io
import math
import re
import shutil
import struct
import wave
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode

import pytest
from jinja2 import FileSystemBytecodeCache

from receiver.browse import access
from receiver.browse.access import hash_password
from receiver.browse.limits import Limits
from receiver.browse.pages.call_filters import NARROWING
from receiver.browse.server import serving

COMPILED_TEMPLATES = FileSystemBytecodeCache()
# When the calls of `simple` began.
START = 1_778_544_000_000

# Like the command's hash, but fast.
PASSWORD = "a password for the test"
HASH = hash_password(PASSWORD, iterations=1)

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, _NAMES)), None)

NEEDS_BROWSER = [
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="needs Chromium on the PATH: make test-system installs it",
    ),
    pytest.mark.skipif(
        importlib.util.find_spec("playwright") is None
        or importlib.util.find_spec("axe_playwright_python") is None,
        reason="waits for playwright and axe-playwright-python: pip install '.[dev]'",
    ),
]


def session_of_admin(served):
    """A login cookie of admin, as the login page sets it."""
    return served.callhouse_authentication.sessions.start(
        served.callhouse_authentication.access.admin_actor
    )


def session_of(served, user):
    """A login cookie of a user."""
    known = served.callhouse_authentication
    users = known.access.known
    session = users.session(user, users.users[user].password_hash)
    return known.sessions.start({"id": user, "session": session})


def log_in(page, user="admin", password=PASSWORD):
    """Log in on the login page of a real browser."""
    page.goto("/-/login")
    page.fill("#id_username", user)
    page.fill("#id_password", password)
    with page.expect_navigation():
        page.click("input[type=submit]")


def cookies(served, user):
    """The login of a user, or of admin."""
    return {"ds_actor": session_of_admin(served) if user == "admin" else session_of(served, user)}


def fetched(served, path, user="admin", *, method="get", headers=None):
    """What Datasette answers to a user, to admin, or without one to nobody."""
    login = cookies(served, user) if user else {}
    ask = getattr(served.client, method.lower())
    return asyncio.run(ask(path, cookies=login, headers=headers or {}))


def add_users(path, roles):
    """Let users browse a database, with PASSWORD: name -> role, or role and limits."""
    with access.edit(access.path_beside(path)) as known:
        for name, role in roles.items():
            role, limits = (role, Limits()) if isinstance(role, str) else role
            known.users[name] = access.User(role, HASH, limits)


def add_tokens(path, roles):
    """The same for tokens; returns the token of each name."""
    tokens = {}
    with access.edit(access.path_beside(path)) as known:
        for name, role in roles.items():
            role, limits = (role, Limits()) if isinstance(role, str) else role
            known.tokens[name], tokens[name] = access.new_token(role, limits)
    return tokens


def visitor(served, tokens, *, name=None):
    """Get a path by the token of a name, or as nobody."""

    def get(path, name=name, **headers):
        if name:
            headers["Authorization"] = f"Bearer {tokens[name]}"
        return fetched(served, path, None, headers=headers)

    return get


@contextmanager
def browsing(settings, roles=None, *, written=None, password_hash="a hash"):
    """Yield Datasette as callhouse serves it, for admin and users as of `add_users`."""
    if roles:
        add_users(settings.database_path, roles)
    served = serving(settings, password_hash=password_hash, written=written)
    # Each Datasette would compile all templates again.
    served.jinja_env.bytecode_cache = COMPILED_TEMPLATES
    try:
        yield served
    finally:
        served.callhouse_writer.close()
        for database in served.databases.values():
            database.close()
        served.executor.shutdown()


@contextmanager
def visiting(settings, *, user=None):
    """Yield get(path, actor=True): what Datasette answers to admin or a user, or to nobody."""
    with browsing(settings) as served:

        def get(path, *, actor=True, method="GET", headers=None):
            who = (user or "admin") if actor else None
            return fetched(served, path, who, method=method, headers=headers)

        yield get


def simple(call_id="call_1", *lines, **fields):
    """A call_ended event whose turns are (role, text)."""
    turns = [
        {
            "role": role,
            "content": text,
            "words": [{"word": text, "start": float(n), "end": n + 0.9}],
        }
        for n, (role, text) in enumerate(lines)
    ]
    call = {
        "call_id": call_id,
        "call_status": "ended",
        "direction": "inbound",
        "from_number": "+14155550123",
        "agent_id": "agent_1",
        "agent_name": "Dental",
        "start_timestamp": START,
        "duration_ms": 20_000,
        "disconnection_reason": "user_hangup",
        "transcript": "".join(f"{role.title()}: {text}\n" for role, text in lines),
        "transcript_with_tool_calls": turns,
    }
    return {"event": "call_ended", "call": call | fields}


def tone(seconds) -> bytes:
    """A WAV of a quiet tone."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        samples = (round(3000 * math.sin(n / 5)) for n in range(8000 * seconds))
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return buffer.getvalue()


def play(route, sound):
    """Answer as a host of recordings does: in ranges, without which a browser cannot seek."""
    asked = re.match(r"bytes=(\d+)-(\d*)", route.request.headers.get("range", "bytes=0-"))
    start, end = int(asked[1]), int(asked[2] or len(sound) - 1)
    headers = {
        "Content-Type": "audio/wav",
        "Accept-Ranges": "bytes",
        "Content-Range": f"bytes {start}-{end}/{len(sound)}",
    }
    route.fulfill(status=206, headers=headers, body=sound[start : end + 1])


def until(page, expression):
    """Wait until it is true. The policy forbids the page's own eval, by which playwright waits."""
    for _ in range(1200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(25)
    raise AssertionError(expression)


def bar_url(page, links, row):
    """The URL of a bar of a chart with these links, as charts.js computes it; None without one."""
    start = re.search(r'data-things="([^"]+)"', page)[1]
    path, _, query = html.unescape(start).partition("?")
    filters = {name: values[0] for name, values in parse_qs(query).items()}
    for name, column in links.items():
        if row[column] not in (None, ""):
            filters[name] = str(row[column])
        elif name not in NARROWING:
            return None
    return f"{path}?{urlencode(filters)}"


def follow(page, selector: str) -> None:
    """Click a link or a button, and wait until the page behind it is loaded."""
    with page.expect_navigation():
        page.click(selector)


def wait_for_charts(page):
    """Wait until every chart of the page is drawn, which none of them may fail to be."""
    until(page, "!document.querySelector('[data-spec]:not(.drawn)')")
    assert page.locator(".drawing .message-error, .drawing .empty").count() == 0


def open_figures(page):
    """Open the tables below the charts."""
    for summary in page.query_selector_all(".numbers summary"):
        summary.click()
    until(page, "!document.querySelector('.numbers:not(:has(td))')")


def chart_rows(page, chart):
    """The rows that a chart draws."""
    source = page.get_attribute(f"#{chart} .drawing", "data-source")
    return page.request.get(source).json()["rows"]


def bar_values(page, chart):
    """The values that stand on the bars of a chart, from the top."""
    found = page.eval_on_selector_all(
        f"#{chart} .mark-text.role-mark text",
        "all => all.map(text => [text.getBoundingClientRect().top, text.textContent])",
    )
    return [text for _, text in sorted(found)]
