"""The real gunicorn and the real Datasette on one database, as a user starts them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import httpx
import pytest

from receiver.addresses import parse_database
from receiver.demo import usual_calls
from receiver.sandbox.companies import Account
from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.server import Sandbox
from receiver.store.connection import connect_readonly
from receiver.store.reviewing import Annotation, write_annotations
from receiver.webhook.signature import sign
from tests.support import running
from tests.support.engines import url_of
from tests.support.running import wait_until
from tests.support.storing import in_store
from tests.support.webhooks import KEY, payload

PASSWORD = "a password for the test"
# An agent of the sandbox's account, which does not answer the number that is called.
SENIOR = list(Account(Random(1)).agent_ids.values())[6]
RULES = f"""
[[inbound.rule]]
name = "complaint"
match = {{ open_complaint = 1 }}
agent_id = "{SENIOR}"
agent_version = 7
dynamic_variables = {{ customer_name = "{{name}}" }}
metadata = {{ queue = "complaints" }}
"""


def settings_for(where) -> dict[str, str]:
    return running.environment(
        RETELL_API_KEY=KEY,
        CALLHOUSE_DATABASE_URL=url_of(where),
        CALLHOUSE_BIND=running.free_address(),
        CALLHOUSE_BROWSE_BIND=running.free_address(),
        CALLHOUSE_BROWSE_PASSWORD=PASSWORD,
        CALLHOUSE_WORKERS="2",
    )


@pytest.fixture
def environ(engine):
    with engine.nothing() as where:
        yield settings_for(where)


@pytest.fixture(scope="module")
def everything(engine, tmp_path_factory):
    """Receiver and Datasette of this module; their settings, and what Datasette has said."""
    folder = tmp_path_factory.mktemp("end-to-end")
    (folder / "callhouse.toml").write_text(RULES)
    with engine.nothing() as where:
        environ = settings_for(where)
        with (
            running.serve(environ, folder),
            engine.browsable(environ, folder) as seen,
            running.browse(seen, folder) as datasette,
        ):
            yield environ, datasette.output


@pytest.fixture
def receiving(everything):
    """The settings of the receiver that runs."""
    return everything[0]


@pytest.fixture
def browser(receiving):
    url = f"http://{receiving['CALLHOUSE_BROWSE_BIND']}"
    with httpx.Client(base_url=url, follow_redirects=True, timeout=30) as client:
        yield client


def post(environ, body):
    raw = json.dumps(body, ensure_ascii=False).encode()
    headers = {"X-Retell-Signature": sign(raw, key=KEY, now_ms=time.time_ns() // 1_000_000)}
    return httpx.post(
        f"http://{environ['CALLHOUSE_BIND']}/webhook", content=raw, headers=headers, timeout=30
    )


def log_in(browser, password=PASSWORD):
    page = browser.get("/-/login")
    token = re.search(r'name="csrftoken" value="([^"]+)"', page.text)[1]
    form = {"username": "admin", "password": password, "csrftoken": token}
    return browser.post("/-/login", data=form)


def rows_of(browser, table, call_id):
    """A call's rows, once Datasette shows the call: a mirror follows the server's database."""
    params = {"call_id": call_id, "_shape": "array"}
    wait_until(lambda: browser.get("/retell/calls.json", params=params).json())
    return browser.get(f"/retell/{table}.json", params=params).json()


def test_posted_call_is_found_by_page_and_search(browser, receiving):
    event = payload("event-call_analyzed")
    call_id = event["call"]["call_id"]
    assert post(receiving, event).status_code == 204
    assert browser.get(f"/retell/calls/{call_id}.json").status_code == 403
    assert log_in(browser).status_code == 200

    assert rows_of(browser, "analyses", call_id)
    page = browser.get(f"/retell/calls/{call_id}")
    assert (page.status_code, event["call"]["agent_id"] in page.text) == (200, True)

    sql = "select agent_id from calls where call_id = :id"
    rows = browser.get("/retell.json", params={"sql": sql, "id": call_id, "_shape": "array"})
    assert rows.json() == [{"agent_id": event["call"]["agent_id"]}]

    word = max(re.findall(r"[A-Za-z]{5,}", event["call"]["transcript"]), key=len)
    found = browser.get("/retell/transcripts.json", params={"_search": word, "_shape": "array"})
    assert isinstance(found.json(), list), found.text
    assert [row["call_id"] for row in found.json()] == [call_id]


def test_call_placed_by_the_sdk_is_analysed(browser, receiving):
    # It takes seconds to import, for this test alone.
    from retell import Retell

    webhook_url = f"http://{receiving['CALLHOUSE_BIND']}/webhook"
    with (
        Sandbox(api_key=KEY, webhook_url=webhook_url) as sandbox,
        Retell(api_key=KEY, base_url=sandbox.url, _strict_response_validation=True) as client,
    ):
        placed = client.call.create_phone_call(
            from_number="+12065550117",
            to_number=BY_NAME["answered"].number,
            metadata={"order": "A-17"},
            retell_llm_dynamic_variables={"customer_name": "Ada Lovelace"},
        )
        sandbox.settle(30)
        assert all(delivery.arrived for delivery in sandbox.deliveries)
        call = client.call.retrieve(placed.call_id)
    log_in(browser)

    def rows(table):
        return rows_of(browser, table, placed.call_id)

    wait_until(lambda: rows("analyses"))
    [stored] = rows("calls")
    assert stored["call_status"] == "ended"
    assert stored["combined_cost_cents"] == call.call_cost.combined_cost > 0
    assert stored["cost_is_final"] == 1
    assert rows("analyses")[0]["call_summary"] == call.call_analysis.call_summary
    assert "Ada Lovelace" in rows("analyses")[0]["call_summary"]
    ran = [e.name for e in call.transcript_with_tool_calls if e.role == "tool_call_invocation"]
    tools = sorted(rows("tool_calls"), key=lambda row: row["position"])
    assert [row["name"] for row in tools] == ran
    assert len(ran) >= 3
    assert tools[0]["result"]
    page = browser.get(f"/retell/calls/{placed.call_id}").text
    assert "agent_hangup" in page


def given(browser, kind, id, row):
    """The stored metadata and dynamic variables of a call or chat."""
    names = ("metadata", "retell_llm_dynamic_variables")
    if kind == "chat":
        return [json.loads(row[name]) for name in names]
    attributes = browser.get(f"/retell/attributes.json?_shape=array&call_id={id}").json()
    return [{a["name"]: a["value"] for a in attributes if a["source"] == name} for name in names]


@pytest.mark.parametrize("kind", ["call", "chat"])
def test_complaint_decides_who_answers(kind, browser, receiving):
    caller = {"call": "+14155550121", "chat": "+14155550122"}[kind]
    earlier = f"call_complaint_{kind}"
    known = {"agent_id": "agent_1", "from_number": caller, "direction": "inbound"}
    known |= {"call_type": "phone_call", "metadata": {"customer_name": "Ada Byron"}}
    post(receiving, {"event": "call_ended", "call": {"call_id": earlier} | known})
    tag = Annotation(earlier, "a", "tag", None, None, "complaint", None, "rita", 1, 1)
    database = parse_database(receiving["CALLHOUSE_DATABASE_URL"])
    in_store(database, lambda store: write_annotations(store, [tag]))

    log_in(browser)
    webhook_url = f"http://{receiving['CALLHOUSE_BIND']}/webhook"
    with Sandbox(api_key=KEY, seed=1, webhook_url=webhook_url) as sandbox:
        made = httpx.post(
            f"{sandbox.url}/sandbox/inbound-{kind}",
            json={"from_number": caller, "to_number": "+14155550142"},
            headers={"Authorization": f"Bearer {KEY}"},
            timeout=30,
        ).json()
        sandbox.settle(30)
        assert all(delivery.arrived for delivery in sandbox.deliveries)
    id = made[f"{kind}_id"]

    def stored():
        return browser.get(f"/retell/{kind}s.json?_shape=array&{kind}_id={id}").json()

    [row] = wait_until(stored)
    assert (row["agent_id"], row["version" if kind == "chat" else "agent_version"]) == (SENIOR, 7)
    metadata, variables = given(browser, kind, id, row)
    assert metadata == {"queue": "complaints", "callhouse_rule": "complaint"}
    assert variables["customer_name"] == "Ada Byron"
    page = browser.get(f"/-/{kind}/{id}").text
    assert "<dt>answered by rule</dt><dd><bdi>complaint</bdi>" in page


def test_nothing_but_the_login_is_seen_without_one(browser):
    for path in ("/", "/retell", "/retell/calls", "/retell.json?sql=select+1", "/-/metadata.json"):
        answer = browser.get(path, follow_redirects=False)
        is_data = ".json" in path
        assert answer.status_code == (403 if is_data else 302), path
        assert is_data or answer.headers["location"].startswith("/-/login"), path
    assert browser.get("/-/login").status_code == 200
    assert "Disallow: /" in browser.get("/robots.txt").text


def test_raw_bodies_are_null_in_pages_and_sql(browser, receiving):
    event = payload("event-call_ended")
    call_id = event["call"]["call_id"]
    post(receiving, event)
    log_in(browser)
    assert rows_of(browser, "calls", call_id)
    sql = (
        "select body, length(body) as n, hex(body) as h, body_bytes > 0 as known "
        "from observations where entity_id = :id"
    )
    rows = browser.get("/retell.json", params={"sql": sql, "id": call_id, "_shape": "array"}).json()
    assert rows == [{"body": None, "n": None, "h": "", "known": 1}]
    rows = browser.get(f"/retell/observations.json?_shape=array&entity_id={call_id}").json()
    assert [row["body"] for row in rows] == [None]


def test_failed_page_logs_nothing_of_the_request(browser, everything):
    log_in(browser)
    sql = "select nope from calls where from_number = '+14155550123'"
    assert browser.get("/retell.json", params={"sql": sql}).status_code == 400
    assert browser.get("/+14155550123").status_code == 404
    _, output = everything
    assert "Browsing on" in output()
    assert "+14155550123" not in output()


@pytest.mark.slow
def test_many_clients_over_several_workers_are_all_stored(environ, tmp_path):
    def one(n):
        return post(environ, {"event": "call_ended", "call": {"call_id": f"call_{n % 50}", "n": n}})

    with running.serve(environ, tmp_path):
        with ThreadPoolExecutor(16) as pool:
            statuses = [answer.status_code for answer in pool.map(one, range(200))]
        metrics = httpx.get(f"http://{environ['CALLHOUSE_BIND']}/metrics", timeout=30).text
    assert statuses == [204] * 200
    assert 'callhouse_events_total{outcome="stored"} 200' in metrics


@pytest.mark.slow
def test_an_acknowledged_event_survives_kill_9(environ, tmp_path):
    with running.serve(environ, tmp_path) as receiver:
        event = payload("event-call_ended")
        assert post(environ, event).status_code == 204
        os.killpg(receiver.process.pid, signal.SIGKILL)
        receiver.process.wait()
    shown = subprocess.run(
        [sys.executable, "-m", "receiver", "show", event["call"]["call_id"]],
        env=environ,
        capture_output=True,
        check=True,
    )
    assert json.loads(shown.stdout) == event["call"]


@pytest.mark.sqlite
def test_a_taken_port_is_a_clear_error(environ):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        for command, setting in (("serve", "CALLHOUSE_BIND"), ("browse", "CALLHOUSE_BROWSE_BIND")):
            result = subprocess.run(
                [sys.executable, "-m", "receiver", command],
                env=environ | {setting: bind},
                capture_output=True,
                text=True,
            )
            assert result.returncode == 2
            assert f"cannot listen on {bind}" in result.stderr
            assert setting in result.stderr


@pytest.mark.sqlite
@pytest.mark.slow
def test_demo_stores_every_event_and_ends(environ, tmp_path):
    asked = ["--calls", "40", "--history", "8", "--day", "2026-05-12"]
    day_start_ms = 1_778_544_000_000
    past = sum(usual_calls(1, day_start_ms - n * 86_400_000, n) for n in range(1, 9))
    result = subprocess.run(
        [sys.executable, "-m", "receiver", "demo", "--exit", *asked],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "signed events posted" in result.stdout
    connection = connect_readonly(tmp_path / "callhouse-demo" / "retell.db")
    placed = "SELECT count(*) FROM calls WHERE to_number LIKE '+1500555%'"
    assert connection.execute("SELECT count(*) FROM calls").fetchone()[0] == past + 40 + 6
    fetched = (
        "SELECT count(DISTINCT entity_id) FROM observations "
        "WHERE source = 'api' AND entity_type = 'call'"
    )
    unstarted = (
        "SELECT count(*) FROM calls WHERE start_timestamp IS NULL AND observed_at "
        "< (SELECT max(start_timestamp) FROM calls WHERE to_number NOT LIKE '+1500555%') - 86400000"
    )
    [(before,)] = connection.execute(unstarted)
    assert before > 0, "calls that never started are of their days"
    assert connection.execute(fetched).fetchone()[0] == past - before
    assert connection.execute(placed).fetchone()[0] == 6
    connection.close()
    assert not (tmp_path / "retell.db").exists(), "the configured database is not touched"


@pytest.mark.sqlite
def test_demo_serves_until_stopped_and_leaves_nothing(environ, tmp_path):
    demo = subprocess.Popen(
        [sys.executable, "-m", "receiver", "demo", "--calls", "40", "--history", "2"],
        env=environ | {"PYTHONUNBUFFERED": "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = []
    for line in demo.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            break
    # Whatever the terminal's width, nothing is torn.
    assert max(len(line) for line in lines if "http" not in line) <= 62
    links = re.findall(r"^  http://[^/]+(/\S+)$", "".join(lines), re.MULTILINE)
    assert len(links) == 3
    password = re.search(r"Log in as admin with (\S+)", "".join(lines))[1]
    url = f"http://{environ['CALLHOUSE_BROWSE_BIND']}"
    with httpx.Client(base_url=url, follow_redirects=True, timeout=30) as browser:
        log_in(browser, password)
        for link in links:
            assert browser.get(link).status_code == 200, link
        worth_hearing = browser.get(links[0])
        assert "/-/media/" in worth_hearing.text
        assert worth_hearing.text.count('class="turn') >= 10
        assert "quarantined" not in worth_hearing.text
        policy = worth_hearing.headers["content-security-policy"]
        assert re.search(r"media-src 'self' https: http://127\.0\.0\.1:\d+;", policy)
        rows = browser.get("/retell/call_log.json?_shape=array&_size=5").json()
        assert len(rows) == 5

        def one_that_was_placed():
            sql = "select call_id from calls where to_number like '+1500555%'"
            return browser.get("/retell.json", params={"sql": sql, "_shape": "array"}).json()

        wait_until(one_that_was_placed)

        def one_with_sound():
            sql = "select call_id from media_files where state = 'kept' and kind = 'recording'"
            return browser.get("/retell.json", params={"sql": sql, "_shape": "array"}).json()

        call_id = wait_until(one_with_sound)[0]["call_id"]
        sound = browser.get(f"/-/media/{call_id}/recording", headers={"Range": "bytes=0-99"})
        assert (sound.status_code, sound.content[:4], len(sound.content)) == (206, b"RIFF", 100)

    demo.send_signal(signal.SIGINT)
    # No log: to whoever runs it, the demo prints the key it has made up.
    output = "".join([*lines, *demo.stdout])
    (tmp_path / "demo.txt").write_text(output)
    again = re.search(r"Browse the calls again: (CALLHOUSE_DATABASE_URL=sqlite:.*)", output)[1]
    subprocess.run(f"{again} --help", shell=True, cwd=tmp_path, check=True)
    assert demo.wait(30) == 130
    demo.stdout.close()
    for bind in (environ["CALLHOUSE_BIND"], environ["CALLHOUSE_BROWSE_BIND"]):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{bind}/")
