"""Who gets where: people and assistants into the database of their role, and nobody else."""

import asyncio
import importlib.util
import re

import httpx
import pytest

from receiver.browse import access
from receiver.browse.access import hash_password
from receiver.browse.pages import DATABASE, MASKED
from tests.browse.access.roles import (
    NUMBER,
    SECRET,
    pages,
)
from tests.support import running
from tests.support.browsing import PASSWORD, fetched

# Datasette serves files.
pytestmark = pytest.mark.sqlite


def test_each_role_sees_its_database_and_no_other(visit):
    for name, own, other in (("jane", DATABASE, MASKED), ("max", MASKED, DATABASE)):
        assert list(visit("/.json", name).json()) == [own]
        for path in ("", ".json?sql=select+1", "/calls", "/calls/call_1.json", "/calls.csv", ".db"):
            assert visit(f"/{other}{path}", name).status_code in (403, 404), path
        assert visit(f"/{own}/calls.csv", name).status_code == 200
        assert visit("/_internal", name).status_code == 403
        assert visit("/_memory", name).status_code == 404
        assert visit("/-/permissions", name).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer callhouse_guess"},
        {"Authorization": "Basic amFuZTpjb3JyZWN0IGhvcnNl"},
        {"Authorization": "Bearer \xe9"},
        {"Cookie": "ds_actor=forged"},
    ],
)
def test_anonymous_requests_get_no_content(served, headers):
    for path in [*list(pages(DATABASE))[::5], f"/{MASKED}/calls.csv", "/-/call/call_1.json"]:
        raw = [(k, v.encode("latin-1")) for k, v in headers.items()]
        answer = asyncio.run(served.client.get(path, headers=raw))
        is_login = answer.headers.get("location", "").startswith("/-/login")
        assert answer.status_code == 403 or is_login, path
        assert SECRET not in answer.text, path


def cookie(served, name, password):
    """The login's cookies, as the form gets them; empty if it is refused."""

    async def post():
        form = await served.client.get("/-/login")
        token = form.cookies["ds_csrftoken"]
        posted = {"username": name, "password": password, "csrftoken": token}
        answer = await served.client.post(
            "/-/login", data=posted, cookies={"ds_csrftoken": token}, follow_redirects=False
        )
        return {k: v for k, v in answer.cookies.items() if k == "ds_actor"}

    return asyncio.run(post())


def home(served, cookies):
    return asyncio.run(served.client.get("/.json", cookies=cookies))


def test_users_log_in_by_password_into_their_database(served):
    for name, database in (("jane", DATABASE), ("max", MASKED), ("admin", DATABASE)):
        assert list(home(served, cookie(served, name, PASSWORD)).json()) == [database]
    for name, password in (("jane", "wrong"), ("nobody", PASSWORD), ("admin", ""), ("", "")):
        assert cookie(served, name, password) == {}


def test_removed_user_or_changed_password_ends_session(served, settings):
    path = access.path_beside(settings.database_path)
    jane, max_ = (cookie(served, name, PASSWORD) for name in ("jane", "max"))
    known = access.load(path)
    del known.users["jane"]
    known.users["max"] = access.User("masked", hash_password("another", iterations=1))
    access.save(path, known)
    assert [home(served, cookies).status_code for cookies in (jane, max_)] == [403, 403]
    assert home(served, cookie(served, "max", "another")).status_code == 200


def test_log_out_everywhere_ends_all_sessions(served):
    sessions = [cookie(served, name, PASSWORD) for name in ("jane", "jane", "max")]

    async def post(cookies):
        form = await served.client.get("/-/logout", cookies=cookies)
        token = form.cookies["ds_csrftoken"]
        posted = {"everywhere": "1", "csrftoken": token}
        return await served.client.post(
            "/-/logout", data=posted, cookies=cookies | {"ds_csrftoken": token}
        )

    assert [home(served, cookies).status_code for cookies in sessions] == [200, 200, 200]
    asyncio.run(post(sessions[0]))
    assert [home(served, cookies).status_code for cookies in sessions] == [403, 403, 200]
    assert home(served, cookie(served, "jane", PASSWORD)).status_code == 200


def test_menu_names_both_ways_to_log_out(served):
    page = fetched(served, "/", "jane").text
    assert re.findall(r"<button[^>]*>(Log out[^<]*)<", page) == ["Log out", "Log out everywhere"]


def test_sessions_of_admin_can_be_ended(served, settings):
    cookies = cookie(served, "admin", PASSWORD)
    with access.edit(access.path_beside(settings.database_path)) as known:
        known.end_sessions("admin")
    assert home(served, cookies).status_code == 403
    assert home(served, cookie(served, "admin", PASSWORD)).status_code == 200


def test_a_role_changes_at_once(served, settings):
    path = access.path_beside(settings.database_path)
    known = access.load(path)
    cookies = cookie(served, "jane", PASSWORD)
    known.users["jane"] = access.User("masked", known.users["jane"].password_hash)
    access.save(path, known)
    assert list(home(served, cookies).json()) == [MASKED]


def test_a_revoked_token_opens_nothing(visit, settings):
    path = access.path_beside(settings.database_path)
    known = access.load(path)
    del known.tokens["jane"]
    access.save(path, known)
    assert visit("/retell/calls.json", "jane").status_code == 403
    assert visit("/retell_masked/calls.json", "max").status_code == 200


def test_user_named_root_has_no_further_rights(served, settings):
    path = access.path_beside(settings.database_path)
    with access.edit(path) as known:
        known.users["root"] = known.users["max"]
    cookies = cookie(served, "root", PASSWORD)
    assert list(home(served, cookies).json()) == [MASKED]
    answer = asyncio.run(served.client.get("/-/permissions", cookies=cookies))
    assert answer.status_code == 403


def test_no_login_sees_which_databases_others_have(visit, settings):
    for path in ("/-/databases", "/-/databases.json"):
        answer = visit(path, "jane")
        assert answer.status_code == 404
        assert settings.database_path.name not in answer.text


def test_browse_with_users_needs_no_admin_password(settings, known, monkeypatch):
    from receiver.browse import server

    assert server._login(settings) == (None, None)
    who = access.Access(access.path_beside(settings.database_path), admin_password_hash=None)
    assert who.role({"id": "admin"}) is None
    assert who.log_in("admin", "") is None


# Assistants

HAS_MCP = importlib.util.find_spec("datasette_mcp") is not None


HELLO = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


def tool(name, **arguments):
    return ("tools/call", {"name": name, "arguments": arguments})


@pytest.mark.skipif(not HAS_MCP, reason="waits for datasette-mcp: pip install '.[mcp]'")
def test_an_assistant_asks_the_database_of_its_token(served, known, db_path):
    address = running.free_address()
    environ = running.environment(
        CALLHOUSE_DATABASE_URL=f"sqlite:///{db_path}", CALLHOUSE_BROWSE_BIND=address
    )
    sql = "select from_number from calls"
    with running.browse(environ, db_path.parent) as datasette, httpx.Client(timeout=30) as client:
        for name, own, other in (("jane", DATABASE, MASKED), ("max", MASKED, DATABASE)):
            headers = {
                "accept": "application/json, text/event-stream",
                "authorization": f"Bearer {known[name]}",
            }
            answers = []
            for method, params in (
                ("initialize", HELLO),
                tool("list_databases"),
                tool("execute_sql", database=own, sql=sql),
                tool("execute_sql", database=other, sql=sql),
                tool("execute_sql", database=own, sql=f"select * from main.calls -- {NUMBER}"),
                tool("execute_sql", database=own, sql=f"select * from calls where [{NUMBER}]"),
            ):
                body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
                url = f"http://{address}/-/mcp"
                answers.append(client.post(url, json=body, headers=headers, timeout=30))
                headers["mcp-session-id"] = answers[0].headers["mcp-session-id"]
            _, databases, found, *refused = (answer.json()["result"] for answer in answers)
            assert databases["structuredContent"] == {"databases": [own]}
            shown = NUMBER if name == "jane" else "•••23"
            assert found["structuredContent"]["rows"] == [{"from_number": shown}]
            assert [answer["isError"] for answer in refused] == [True, True, True]
    assert NUMBER not in datasette.output()


def test_no_assistant_gets_in_without_a_token(served, known):
    cookies = cookie(served, "jane", PASSWORD)
    for path in ("/-/mcp", "/-/mcp/"):
        for headers in ({}, {"Authorization": "Bearer guess"}):
            answer = asyncio.run(
                served.client.post(path, json={}, headers=headers, cookies=cookies)
            )
            assert answer.status_code == 401
