"""The real gunicorn and the real Datasette on one file, as a user starts them."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from retell import Retell

from receiver.sandbox.scenarios import BY_NAME
from receiver.sandbox.server import Sandbox
from receiver.signature import sign
from receiver.store.reading import connect_readonly
from tests.conftest import KEY, payload, wait_until

PASSWORD = "a password for the test"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def environ(tmp_path):
    return os.environ | {
        "RETELL_API_KEY": KEY,
        "CALLHOUSE_DATABASE_URL": f"sqlite:///{tmp_path / 'retell.db'}",
        "CALLHOUSE_BIND": f"127.0.0.1:{free_port()}",
        "CALLHOUSE_BROWSE_BIND": f"127.0.0.1:{free_port()}",
        "CALLHOUSE_BROWSE_PASSWORD": PASSWORD,
        "CALLHOUSE_WORKERS": "2",
    }


@contextmanager
def running(command, environ, address):
    # A file: a pipe that nobody reads would stop the server once it is full. At the end of the run
    # it is searched for what must never be said.
    folder = Path(environ["CALLHOUSE_DATABASE_URL"].removeprefix("sqlite:///")).parent
    with (folder / f"{command}-{address[10:]}.log").open("w+b") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver.cli", command],
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

        def said():
            output.seek(0)
            return output.read().decode()

        def answers():
            assert process.poll() is None, said()
            try:
                return httpx.get(f"http://{address}/healthz")
            except httpx.TransportError:
                return None

        try:
            wait_until(answers)
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(timeout=30)
            process.said = said()


@pytest.fixture
def receiver(environ):
    with running("serve", environ, environ["CALLHOUSE_BIND"]) as process:
        yield process


@pytest.fixture
def browser(receiver, environ):
    address = environ["CALLHOUSE_BROWSE_BIND"]
    client = httpx.Client(base_url=f"http://{address}", follow_redirects=True)
    with running("browse", environ, address), client:
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


def test_a_posted_call_is_found_by_its_page_by_sql_and_by_search(browser, environ):
    event = payload("event-call_analyzed")
    call_id = event["call"]["call_id"]
    assert post(environ, event).status_code == 204
    assert browser.get(f"/retell/calls/{call_id}").status_code == 403
    assert log_in(browser).status_code == 200

    page = browser.get(f"/retell/calls/{call_id}")
    assert (page.status_code, event["call"]["agent_id"] in page.text) == (200, True)

    sql = "select agent_id from calls where call_id = :id"
    rows = browser.get("/retell.json", params={"sql": sql, "id": call_id, "_shape": "array"})
    assert rows.json() == [{"agent_id": event["call"]["agent_id"]}]

    word = max(re.findall(r"[A-Za-z]{5,}", event["call"]["transcript"]), key=len)
    found = browser.get("/retell/transcripts.json", params={"_search": word, "_shape": "array"})
    assert [row["call_id"] for row in found.json()] == [call_id]


def test_a_call_that_the_vendors_client_places_shows_up_analysed(browser, environ):
    webhook_url = f"http://{environ['CALLHOUSE_BIND']}/webhook"
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
        params = {"call_id": placed.call_id, "_shape": "array"}
        return browser.get(f"/retell/{table}.json", params=params).json()

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


def test_nothing_but_the_login_is_seen_without_one(browser):
    for path in ("/", "/retell", "/retell/calls", "/retell.json?sql=select+1", "/-/metadata.json"):
        assert browser.get(path).status_code == 403, path
    assert browser.get("/-/login").status_code == 200
    assert "Disallow: /" in browser.get("/robots.txt").text


def test_raw_bodies_read_as_null_by_page_and_by_sql(browser, environ):
    post(environ, payload("event-call_analyzed"))
    log_in(browser)
    sql = (
        "select body, length(body) as n, hex(body) as h, body_bytes > 0 as known from observations"
    )
    rows = browser.get("/retell.json", params={"sql": sql, "_shape": "array"}).json()
    assert rows == [{"body": None, "n": None, "h": "", "known": 1}]
    rows = browser.get("/retell/observations.json?_shape=array").json()
    assert [row["body"] for row in rows] == [None]


def test_a_page_that_fails_logs_nothing_of_what_was_asked(receiver, environ):
    address = environ["CALLHOUSE_BROWSE_BIND"]
    with running("browse", environ, address) as process:
        url = f"http://{address}"
        with httpx.Client(base_url=url, follow_redirects=True) as browser:
            log_in(browser)
            sql = "select nope from calls where from_number = '+14155550123'"
            assert browser.get("/retell.json", params={"sql": sql}).status_code == 400
            assert browser.get("/+14155550123").status_code == 404
    assert "Browsing on" in process.said
    assert "+14155550123" not in process.said


@pytest.mark.slow
def test_many_clients_over_several_workers_are_all_stored(receiver, environ):
    def one(n):
        return post(environ, {"event": "call_ended", "call": {"call_id": f"call_{n % 50}", "n": n}})

    with ThreadPoolExecutor(16) as pool:
        statuses = [answer.status_code for answer in pool.map(one, range(200))]
    assert statuses == [204] * 200
    metrics = httpx.get(f"http://{environ['CALLHOUSE_BIND']}/metrics").text
    assert 'callhouse_events_total{outcome="stored"} 200' in metrics


@pytest.mark.slow
def test_an_acknowledged_event_survives_kill_9(environ):
    with running("serve", environ, environ["CALLHOUSE_BIND"]) as process:
        event = payload("event-call_ended")
        assert post(environ, event).status_code == 204
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shown = subprocess.run(
        [sys.executable, "-m", "receiver.cli", "show", event["call"]["call_id"]],
        env=environ,
        capture_output=True,
        check=True,
    )
    assert json.loads(shown.stdout) == event["call"]


def test_a_taken_port_is_a_clear_error(environ):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        for command, setting in (("serve", "CALLHOUSE_BIND"), ("browse", "CALLHOUSE_BROWSE_BIND")):
            result = subprocess.run(
                [sys.executable, "-m", "receiver.cli", command],
                env=environ | {setting: bind},
                capture_output=True,
                text=True,
            )
            assert result.returncode == 2
            assert f"cannot listen on {bind}" in result.stderr
            assert setting in result.stderr


@pytest.mark.slow
def test_the_demo_stores_every_event_and_ends_by_itself(environ, tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "receiver.cli", "demo", "--exit", "--calls", "40"],
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
    assert connection.execute("SELECT count(*) FROM calls").fetchone()[0] == 40 + 6
    assert connection.execute(placed).fetchone()[0] == 6
    connection.close()
    assert not (tmp_path / "retell.db").exists(), "the configured database is not touched"


def test_the_demo_keeps_serving_until_it_is_stopped_and_leaves_nothing_behind(environ, tmp_path):
    demo = subprocess.Popen(
        [sys.executable, "-m", "receiver.cli", "demo", "--calls", "40"],
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
    password = re.search(r"Log in as admin with (\S+)", "".join(lines))[1]
    url = f"http://{environ['CALLHOUSE_BROWSE_BIND']}"
    with httpx.Client(base_url=url, follow_redirects=True) as browser:
        log_in(browser, password)
        rows = browser.get("/retell/call_log.json?_shape=array&_size=5").json()
        assert len(rows) == 5

        def one_that_was_placed():
            sql = "select call_id from calls where to_number like '+1500555%'"
            return browser.get("/retell.json", params={"sql": sql, "_shape": "array"}).json()

        wait_until(one_that_was_placed)

    demo.send_signal(signal.SIGINT)
    # No log: to whoever runs it, the demo prints the key it has made up.
    (tmp_path / "demo.txt").write_text("".join([*lines, *demo.stdout]))
    assert demo.wait(30) == 0
    demo.stdout.close()
    for bind in (environ["CALLHOUSE_BIND"], environ["CALLHOUSE_BROWSE_BIND"]):
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://{bind}/")
