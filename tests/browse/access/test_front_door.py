"""What becomes of a request before Datasette sees it, and of a login over time."""

import asyncio
import logging
from urllib.parse import quote

import pytest

from receiver.browse import access
from receiver.browse.access import hash_password
from receiver.browse.pages import DATABASE, MASKED
from receiver.browse.pages.login import SESSION_SECONDS, Attempts, Sessions, local_path
from receiver.browse.server import serving
from tests.support.browsing import HASH, PASSWORD

# Datasette serves files.
pytestmark = pytest.mark.sqlite


@pytest.fixture
def ask(served):
    """Send a request as nobody, or with cookies; redirects are not followed."""

    def request(method, path, **more):
        return asyncio.run(served.client.request(method, path, follow_redirects=False, **more))

    return request


@pytest.fixture
def log_in(ask):
    """Post the login form."""

    def posted(name="jane", password=PASSWORD, path="/-/login"):
        token = ask("GET", path).cookies["ds_csrftoken"]
        form = {"username": name, "password": password, "csrftoken": token}
        return ask("POST", path, data=form, cookies={"ds_csrftoken": token})

    return posted


# Where one wanted to go


@pytest.mark.parametrize(
    "path", ["/retell/calls?_size=5&agent=a%26b", "/-/call/x", "/-/nothing", "/-/calls?q=%C3%A9"]
)
def test_anonymous_page_request_goes_to_login_and_back(ask, log_in, path):
    for method in ("GET", "HEAD"):
        answer = ask(method, path)
        assert answer.status_code == 302
        assert answer.headers["location"] == f"/-/login?next={quote(path, safe='/~')}"
        assert answer.headers["cache-control"] == "no-store"
    refused = log_in(password="wrong", path=answer.headers["location"])
    assert refused.status_code == 403
    assert "<form" in refused.text
    assert log_in(path=answer.headers["location"]).headers["location"] == path


@pytest.mark.parametrize(
    "text",
    [
        *("//evil.example", "/\\evil.example", "\\/evil.example", "https://evil.example/"),
        *(
            "javascript:alert(1)",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\x00",
            " //evil.example",
        ),
        *("/a b", "/\x7f", "/caf\xe9", "/a\\b", "///evil.example", "evil", "", "/" + "a" * 5000),
        *("/-/login", "/-/login?next=/-/login", "/-/logout"),
    ],
)
def test_login_redirects_to_own_paths_only(text):
    assert local_path(text) == "/"


def test_own_paths_are_redirect_targets():
    for path in ("/", "/retell/calls?a=1&b=%20~", "/-/call/x", "/-/login2", "/a;b,c=(d)'"):
        assert local_path(path) == path


def test_another_site_cannot_log_somebody_in(ask):
    """Its form has no cookies, of which Datasette requires no token."""
    form = {"username": "jane", "password": PASSWORD}
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 302)):
        answer = ask("POST", "/-/login", data=form, headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status
        assert ("set-cookie" in answer.headers) == (status == 302)


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/retell.json?sql=select+1", {}),
        ("/retell/calls.csv", {}),
        ("/retell/calls?_format=json", {}),
        ("/retell/calls", {"Accept": "application/json"}),
        ("/retell/calls", {"Authorization": "Bearer callhouse_guess"}),
        ("/-/actor.json", {}),
    ],
)
def test_anonymous_request_for_data_is_a_403(ask, path, headers):
    answer = ask("GET", path, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"] == "Log in, or send a token."


def test_login_page_redirects_logged_in_users(ask, log_in):
    cookies = {"ds_actor": log_in().cookies["ds_actor"]}
    answer = ask("GET", "/-/login?next=/retell/calls", cookies=cookies)
    assert (answer.status_code, answer.headers["location"]) == (302, "/retell/calls")
    assert ask("GET", "/-/login?next=//evil", cookies=cookies).headers["location"] == "/"


def test_login_form_has_autocomplete_and_focus(ask, settings, served):
    page = ask("GET", "/-/login").text
    assert 'autocomplete="username"' in page
    assert 'autocomplete="current-password"' in page
    assert page.count("autofocus") == 1
    access.save(access.path_beside(settings.database_path), access.AccessList())
    page = ask("GET", "/-/login").text
    assert 'value="admin"' in page
    assert page.index("autofocus") > page.index("id_password")


def test_page_of_another_role_is_403(ask, log_in):
    cookies = {"ds_actor": log_in("max").cookies["ds_actor"]}
    answer = ask("GET", f"/{DATABASE}/calls", cookies=cookies)
    assert answer.status_code == 403
    assert "Your role does not allow this page" in answer.text
    assert f"/{MASKED}" in answer.text


def test_head_answers_as_get_without_a_body(ask, log_in):
    cookies = {"ds_actor": log_in().cookies["ds_actor"]}
    for path in (
        "/",
        "/retell/calls",
        "/-/call/call_1",
        "/-/calls",
        "/-/dashboards",
        "/retell.json",
    ):
        got, head = ask("GET", path, cookies=cookies), ask("HEAD", path, cookies=cookies)
        assert (head.status_code, head.content) == (got.status_code, b""), path


# Sessions


def test_logout_ends_copied_cookies_across_restarts(served, settings, ask, log_in):
    cookies = {"ds_actor": log_in().cookies["ds_actor"]}
    other = {"ds_actor": log_in().cookies["ds_actor"]}
    page = ask("GET", "/-/logout", cookies=cookies)
    token = page.cookies["ds_csrftoken"]
    both = cookies | {"ds_csrftoken": token}
    answer = ask("POST", "/-/logout", data={"csrftoken": token}, cookies=both)
    assert answer.headers["location"] == "/-/login"
    assert ask("GET", "/.json", cookies=cookies).status_code == 403
    assert ask("GET", "/.json", cookies=other).status_code == 200
    again = serving(settings, password_hash=HASH)
    assert asyncio.run(again.client.get("/.json", cookies=cookies)).status_code == 403
    assert asyncio.run(again.client.get("/.json", cookies=other)).status_code == 200


def test_session_expires(settings, known):
    who = access.Access(access.path_beside(settings.database_path), admin_password_hash=HASH)
    clock = [1_000_000.0]
    path = settings.database_path.with_suffix(".sessions")
    sessions = Sessions(path, secret="s", access=who, now=lambda: clock[0])
    cookie = sessions.start(who.admin_actor)
    clock[0] += SESSION_SECONDS - 1
    assert sessions.actor(cookie) == who.admin_actor
    sessions.end(cookie)
    assert len(path.read_text().splitlines()) == 1
    clock[0] += 1
    assert sessions.actor(cookie) is None
    other = sessions.start(who.admin_actor)
    sessions.end(other)
    # What has expired need not be listed any more.
    assert len(path.read_text().splitlines()) == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_new_admin_password_ends_sessions_of_admin(served, settings, log_in):
    cookies = {"ds_actor": log_in("admin").cookies["ds_actor"]}
    for password, status in ((PASSWORD, 200), ("another", 403)):
        hash_ = HASH if password == PASSWORD else hash_password(password, iterations=1)
        again = serving(settings, password_hash=hash_)
        assert asyncio.run(again.client.get("/.json", cookies=cookies)).status_code == status


def test_admin_hash_of_a_setting_outlasts_a_restart(settings):
    from dataclasses import replace

    from receiver.browse import server

    def made(password):
        return server._login(replace(settings, browse_password=password))[0]

    assert made("sesame") == made("sesame") != made("another")


def test_invalid_cookie_is_no_login(served, ask):
    for cookie in (
        served.sign({"a": {"id": "admin"}}, "actor"),
        served.sign({"actor": {"id": "admin"}}, "callhouse-session2"),
        "x",
    ):
        assert ask("GET", "/.json", cookies={"ds_actor": cookie}).status_code == 403


# Failed logins


def test_failed_logins_are_limited_per_name_and_overall():
    clock = [0.0]
    attempts = Attempts(now=lambda: clock[0])
    assert [attempts.begin("jane") for _ in range(10)] == [0.0] * 10
    assert 0 < attempts.begin("jane") <= 6
    assert attempts.begin("max") == 0.0
    clock[0] += 6
    assert attempts.begin("jane") == 0.0
    assert attempts.begin("jane") > 0
    tried = sum(attempts.begin(f"guess {n}") == 0.0 for n in range(1000))
    assert tried < 30
    assert len(attempts._names) <= 1024


def test_right_passwords_use_up_no_attempts():
    attempts = Attempts(now=lambda: 0.0)
    for _ in range(100):
        assert attempts.begin("jane") == 0.0
        attempts.succeeded("jane")


def test_too_many_failed_logins_are_429(log_in, caplog):
    with caplog.at_level(logging.WARNING, "callhouse.login"):
        answers = [log_in("jane", "wrong-password") for _ in range(11)]
        log_in("hunter2-typed-as-name", "x")
    assert [answer.status_code for answer in answers] == [403] * 10 + [429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 6
    assert "failed login as jane" in caplog.text
    assert "an unknown name" in caplog.text
    assert "wrong-password" not in caplog.text
    assert "hunter2" not in caplog.text
    assert log_in("max").status_code == 302


def test_anonymous_long_address_redirects_without_next(ask):
    for path in ("/" + "a" * 60_000, "/retell?" + "a=b&" * 15_000):
        answer = ask("GET", path)
        assert (answer.status_code, answer.headers["location"]) == (302, "/-/login")


# Methods and bodies


def test_methods_that_no_page_takes_are_a_405(ask, log_in):
    cookies = {"ds_actor": log_in().cookies["ds_actor"]}
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"):
        for path in ("/", "/retell/calls", "/retell", "/-/call/call_1", "/nothing"):
            for sent in ({}, cookies):
                answer = ask(method, path, cookies=sent)
                assert answer.status_code == 405, (method, path)
                assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/-/login", "/-/mcp"])
def test_body_over_64_kb_is_refused_unread(served, known, path):
    """With a length before anything is read; without one, after little more than the limit."""
    for headers, most in (([(b"content-length", b"200000000")], 0), ([], 2)):
        given, sent = [], []

        async def receive(given=given):
            given.append(None)
            return {"type": "http.request", "body": b"a" * 65_536, "more_body": True}

        async def send(message, sent=sent):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [
                (b"content-type", b"application/x-www-form-urlencoded"),
                (b"authorization", f"Bearer {known['jane']}".encode()),
                *headers,
            ],
        }
        asyncio.run(served.app()(scope, receive, send))
        assert sent[0]["status"] == 413
        assert len(given) == most
