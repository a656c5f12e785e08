"""`callhouse call` and `callhouse webhook`, as a person types them, against the local Retell."""

import json

import pytest
from click.testing import CliRunner

from receiver import config
from receiver.cli import main
from receiver.errors import StoreBusy
from receiver.retell.placing import ANALYSIS_SECONDS, POLL_SECONDS, follow, place_call
from receiver.sandbox.server import Sandbox
from receiver.store import receive, show
from tests.support.engines import url_of
from tests.support.proxies import Lost, Proxy
from tests.support.serving import serving
from tests.support.webhooks import KEY

pytestmark = pytest.mark.slow_on_postgres

TO, FROM = "+15005550001", "+14155550100"


@pytest.fixture
def sandbox(settings, monkeypatch, database):
    """A local Retell that the settings lead to, and that reports to a real receiver."""
    with (
        serving(settings) as url,
        Sandbox(api_key=KEY, limits=None, webhook_url=url) as sandbox,
    ):
        monkeypatch.setenv("RETELL_API_KEY", KEY)
        monkeypatch.setenv("RETELL_BASE_URL", sandbox.url)
        monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
        yield sandbox
        sandbox.settle(20)


def run(*args, text=None):
    return CliRunner().invoke(main, [str(arg) for arg in args], input=text)


def observations(db, call_id):
    query = "SELECT source, level FROM observations WHERE entity_id = ? ORDER BY observed_at"
    return [tuple(row) for row in db.execute(query, (call_id,))]


# -- one call --------------------------------------------------------------------------------------


def test_call_prints_id_and_stores_registered_call(sandbox, db):
    result = run("call", TO, "--from", FROM)
    call_id = result.stdout.strip()
    assert (result.exit_code, list(sandbox.calls)) == (0, [call_id])
    assert ("api", 0) in observations(db, call_id)


def test_call_sends_every_option(sandbox, db, tmp_path):
    file = tmp_path / "call.json"
    override = {"agent": {"voice_id": "11labs-Adrian"}}
    file.write_text(
        json.dumps({"from_number": FROM, "metadata": {"a": 1}, "agent_override": override})
    )
    agent = sandbox.agents[0]
    result = run(
        "call", TO, "--json", file, "--agent", agent, "--metadata", "lead=7", "--metadata", "x=a=b",
        "--var", "name=Ann", "--sip-header", "X-Team=spring", "--idempotency-key", "k",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    [call] = sandbox.calls.values()
    assert call["agent_id"] == agent
    assert call["metadata"] == {"a": 1, "lead": "7", "x": "a=b"}
    assert call["retell_llm_dynamic_variables"]["name"] == "Ann"
    assert call["custom_sip_headers"]["X-Team"] == "spring"
    again = run("call", TO, "--json", "-", "--idempotency-key", "k", text=file.read_text())
    assert again.stdout == result.stdout


def test_call_with_wait_prints_how_it_ended(sandbox):
    result = run("call", TO, "--from", FROM, "--wait", "--timeout", "20")
    assert result.exit_code == 0, result.output
    lines = dict(line.split(None, 1) for line in result.stdout.splitlines()[1:])
    assert list(lines) == ["status", "reason", "duration", "cost", "summary"]
    assert lines["status"] == "ended"
    assert lines["cost"].startswith("$0.")
    assert "-" not in lines.values()


def test_unconnected_call_is_status_1(sandbox):
    result = run("call", "+15005550004", "--from", FROM, "--wait", "--timeout", "20")
    assert result.exit_code == 1
    assert "status    not_connected" in result.stdout
    assert "reason    dial_busy" in result.stdout


def test_call_without_end_prints_what_to_check(sandbox):
    sandbox.webhook_url = None
    result = run("call", TO, "--from", FROM, "--wait", "--timeout", "0.1")
    assert result.exit_code == 1
    assert "callhouse webhook test" in result.stderr


def test_call_makes_the_database_first(sandbox, monkeypatch, tmp_path):
    path = tmp_path / "new" / "calls.db"
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{path}")
    result = run("call", TO, "--from", FROM)
    assert show(path, result.stdout.strip())["call_status"] == "registered"


def test_unstored_call_prints_its_id(sandbox, store, monkeypatch):
    add = type(store).add

    def busy(self, received):
        if received.source == "api":
            raise StoreBusy("busy")
        return add(self, received)

    monkeypatch.setattr(type(store), "add", busy)
    result = run("call", TO, "--from", FROM)
    [call_id] = sandbox.calls
    assert result.exit_code == 1
    assert f"the call {call_id} was placed, but not stored" in result.stderr
    assert "Do not place it again" in result.stderr


def test_lost_response_prints_the_idempotency_key(sandbox, monkeypatch):
    def lose(method, path, status):
        raise Lost

    with Proxy(sandbox.url, after=lose) as proxy:
        monkeypatch.setenv("RETELL_BASE_URL", proxy.url)
        lost = run("call", TO, "--from", FROM)
    assert lost.exit_code == 1
    assert "unknown whether the call was placed" in lost.stderr
    key = lost.stderr.split("--idempotency-key ")[1].strip()
    monkeypatch.setenv("RETELL_BASE_URL", sandbox.url)
    assert run("call", TO, "--from", FROM, "--idempotency-key", key).exit_code == 0
    assert len(sandbox.calls) == 1


def test_interrupted_call_prints_the_idempotency_key(sandbox, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("receiver.retell.client.Retell.create_phone_call", interrupt)
    result = run("call", TO, "--from", FROM)
    assert result.exit_code == 130
    assert result.stderr.startswith("Interrupted. Unknown whether the call was placed. ")
    assert "--idempotency-key" in result.stderr


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("+15005550400", "Retell rejected the request (400)"),
        ("+15005550402", "Retell requires a payment (402)"),
        ("+15005550422", "Retell does not know a number, agent or version (422)"),
        ("+15005550429", "the account is rate-limited (429)"),
        ("+15005550500", "Retell failed (500)"),
    ],
)
def test_each_rejection_prints_one_sentence_and_hint(sandbox, db, number, message):
    asked = []
    with Proxy(sandbox.url, after=lambda *answer: asked.append(answer)) as proxy:
        result = CliRunner().invoke(
            main, ["call", number, "--from", FROM], env={"RETELL_BASE_URL": proxy.url}
        )
    assert result.exit_code == 1
    error, hint = result.stderr.splitlines()
    assert message in error
    assert hint.strip()
    assert number not in result.output
    assert len(asked) == 1
    assert not sandbox.calls
    assert db.execute("SELECT count(*) FROM observations").fetchone()[0] == 0


def test_wrong_key_is_reported(sandbox):
    result = CliRunner().invoke(
        main, ["call", TO, "--from", FROM], env={"RETELL_API_KEY": "key_other"}
    )
    assert result.exit_code == 1
    assert "Retell rejected the API key (401)" in result.stderr
    assert "key_other" not in result.output


@pytest.mark.parametrize(
    "args",
    [
        ("call",),
        ("call", TO),
        ("call", "0415", "--from", FROM),
        ("call", TO, "--from", FROM, "--metadata", "lead"),
        ("call", TO, "--from", FROM, "--sip-header", "Team=x"),
        ("call", TO, "--from", FROM, "--agent-version", ""),
        ("call", TO, "--from", FROM, "--per-second", "2"),
        ("call", TO, "--from", FROM, "--csv", "list.csv"),
        ("call", "--from", FROM, "--csv", "list.csv", "--wait"),
        ("call", "--from", FROM, "--csv", "list.csv", "--per-second", "0"),
        ("call", "--from", FROM, "--csv", "list.csv", "--per-second", "101"),
        ("call", "--from", FROM, "--csv", "list.csv", "--per-second", "nan"),
        ("call", "--from", FROM, "--csv", "nowhere.csv"),
        ("call", TO, "--from", FROM, "--json", "nowhere.json"),
        ("call", TO, "--from", FROM, "--json", "list.csv"),
        ("webhook", "set", "https://x.example/webhook"),
        ("webhook", "set", "https://x.example/webhook", "--all", "--agent", "agent_a"),
        ("webhook", "set", "https://x.example/webhook", "--agent", "agent_nobody"),
        ("webhook", "set", "x.example/webhook", "--all"),
        ("webhook", "set", "https://x.example/web hook", "--all"),
        ("webhook", "test"),
    ],
)
def test_unusable_arguments_are_status_2_and_call_nobody(sandbox, tmp_path, args):
    (tmp_path / "list.csv").write_text("to_number\n+14155550123\n")
    result = run(*args)
    assert result.exit_code == 2, result.output
    assert result.stderr
    assert not sandbox.calls


def test_the_function_places_and_stores_a_call(sandbox, database):
    placed = place_call(TO, from_number=FROM, metadata={"lead": 7}, settings=config.load())
    assert placed.answer.status == 201
    assert show(database, placed.call_id)["metadata"] == {"lead": 7}


# -- waiting ---------------------------------------------------------------------------------------


@pytest.fixture
def watch(store, database):
    """Follow the call `c` while `later` tells what arrives after how many seconds."""

    def watch(later, timeout_seconds=1000.0):
        seconds, seen = [0.0], []

        def sleep(pause):
            assert pause == POLL_SECONDS
            seconds[0] += pause
            for call in [later.pop(at) for at in sorted(later) if at <= seconds[0]]:
                body = json.dumps({"event": "call_x", "call": {"call_id": "c", **call}})
                store.add(receive(body.encode(), source="webhook", observed_at=1, received_at=1))

        state = follow(
            database,
            "c",
            timeout_seconds=timeout_seconds,
            changed=lambda s: seen.append(s.call_status),
            sleep=sleep,
            monotonic=lambda: seconds[0],
        )
        return state, seen, seconds[0]

    return watch


def test_waiting_ends_with_the_analysis(watch):
    analysed = {"call_status": "ended", "call_analysis": {"call_summary": "All well."}}
    state, seen, seconds = watch(
        {5: {"call_status": "ongoing"}, 9: {"call_status": "ended"}, 12: analysed}
    )
    assert (state.call_summary, seen, seconds) == ("All well.", ["ongoing", "ended"], 12)


def test_waiting_for_an_analysis_ends(watch):
    state, _, seconds = watch({5: {"call_status": "ended"}})
    assert (state.call_status, state.call_summary) == ("ended", None)
    assert seconds == 5 + ANALYSIS_SECONDS


def test_waiting_ends_at_the_timeout(watch):
    assert watch({}, timeout_seconds=30)[0] is None
    state, _, seconds = watch({5: {"call_status": "ongoing"}}, timeout_seconds=30)
    assert (state.call_status, seconds) == ("ongoing", 30)


def test_ctrl_c_leaves_the_call_alone(sandbox, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("receiver.retell.placing.follow", interrupt)
    result = run("call", TO, "--from", FROM, "--wait")
    assert result.exit_code == 130
    assert f"callhouse show {result.stdout.strip()}" in result.stderr


# -- a list ----------------------------------------------------------------------------------------


def test_list_with_rejected_rows_is_status_1(sandbox, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("to_number,var.name\n+14155550101,Ann\n0415,Bob\n+15005550422,Cy\n")
    result = run("call", "--from", FROM, "--csv", path, "--per-second", "100")
    assert result.exit_code == 1
    assert "1  placed" in result.stderr
    assert "2  refused" in result.stderr
    assert "Refused, line 3: to_number is not an E.164 number" in result.stderr
    assert "Refused, line 4: Retell does not know a number, agent or version (422)" in result.stderr
    path.write_text("to_number,var.name\n+14155550101,Ann\n+14155550102,Bob\n")
    result = run("call", "--from", FROM, "--csv", path, "--per-second", "100")
    assert result.exit_code == 0
    assert "1  placed" in result.stderr
    assert "1  placed before" in result.stderr
    assert len(sandbox.calls) == 2


def test_stopped_list_prints_summary_and_reason(sandbox, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text("to_number\n+14155550101\n+15005550402\n+14155550102\n")
    result = run("call", "--from", FROM, "--csv", path, "--per-second", "100")
    assert result.exit_code == 1
    assert "1  placed" in result.stderr
    assert "2  not tried" in result.stderr
    assert "Retell requires a payment (402)" in result.stderr


def test_an_interrupted_list_says_how_to_continue(sandbox, tmp_path, monkeypatch):
    path = tmp_path / "list.csv"
    path.write_text("to_number\n+14155550101\n")

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("receiver.retell.call_lists.create", interrupt)
    result = run("call", "--from", FROM, "--csv", path)
    assert result.exit_code == 130
    assert "1  not tried" in result.stderr
    assert "nobody is called twice" in result.stderr


def test_list_in_another_encoding_is_refused(sandbox, tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes(b"to_number,var.name\n+14155550101,Ren\xe9\n")
    result = run("call", "--from", FROM, "--csv", path)
    assert result.exit_code == 2
    assert "UTF-8" in result.stderr


# -- webhooks --------------------------------------------------------------------------------------


def test_webhook_set_and_show_print_urls(sandbox):
    one, two = sandbox.agents[:2]
    url = "https://calls.example.com/webhook"
    result = run("webhook", "set", url, "--agent", one)
    assert result.exit_code == 0, result.output
    assert result.stdout.split()[0] == one
    assert url in result.stdout
    shown = run("webhook", "show")
    rows = {line.split()[0]: line for line in shown.stdout.splitlines()[1:]}
    assert set(rows) == set(sandbox.agents)
    assert url in rows[one]
    assert "the account's" in rows[two]
    assert f"1 of {len(sandbox.agents)} agents have their own URL" in shown.stderr
    assert "never calls" in shown.stderr
    assert "Workspace: Sandbox workspace" in shown.stderr
    as_json = {w["agent_id"]: w for w in json.loads(run("webhook", "show", "--json").stdout)}
    assert as_json[one]["webhook_url"] == url
    assert as_json[two]["webhook_url"] is None


def test_webhook_set_all_sets_every_agent(sandbox):
    url = "https://calls.example.com/{{shop}}/webhook"
    assert run("webhook", "set", url, "--all").exit_code == 0
    shown = json.loads(run("webhook", "show", "--json").stdout)
    assert {w["webhook_url"] for w in shown} == {url}


def test_webhook_test_checks_every_agents_url(sandbox):
    good, bad = sandbox.webhook_url, "http://127.0.0.1:9/webhook"
    run("webhook", "set", good, "--all")
    result = run("webhook", "test")
    assert result.exit_code == 0, result.output
    assert "arrived unchanged and verified" in result.stdout
    run("webhook", "set", bad, "--agent", sandbox.agents[0])
    result = run("webhook", "test")
    assert result.exit_code == 1
    assert "wrong no connection" in result.stdout
    assert "arrived unchanged and verified" in result.stdout


def test_webhook_test_sends_an_event_per_account(sandbox, monkeypatch):
    monkeypatch.setenv("RETELL_API_KEY_OTHER", "key_of_another_workspace")
    result = run("webhook", "test", sandbox.webhook_url)
    assert result.exit_code == 1
    assert result.stderr.index("Account default") < result.stderr.index("Account other")
    assert result.stdout.count(sandbox.webhook_url) == 2
    assert result.stdout.count("add it to RETELL_WEBHOOK_KEYS") == 1
    one = run("webhook", "test", sandbox.webhook_url, "--account", "default")
    assert one.exit_code == 0
    assert "Account" not in one.stderr
    shown = run("webhook", "show", "--account", "default", "--json")
    assert {w["account"] for w in json.loads(shown.stdout)} == {"default"}
    assert run("webhook", "show", "--account", "nobody").exit_code == 2


def test_webhook_test_of_a_url_needs_no_retell(sandbox, db, monkeypatch):
    monkeypatch.setenv("RETELL_BASE_URL", "http://127.0.0.1:9")
    result = run("webhook", "test", sandbox.webhook_url)
    assert result.exit_code == 0, result.output
    assert "Workspace unknown: " in result.stderr
    assert db.execute("SELECT count(*) FROM observations").fetchone()[0] == 0


@pytest.mark.parametrize("option", [["--dry-run"], ["--per-day", "1"]])
def test_option_of_queries_needs_a_query(sandbox, option):
    result = run("call", TO, "--from", FROM, *option)
    assert (result.exit_code, f"{option[0]} needs --from-view" in result.stderr) == (2, True)
    assert not sandbox.calls
