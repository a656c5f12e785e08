"""The operations on calls and chats, by our client and commands against the sandbox."""

import json

import pytest
from click.testing import CliRunner

from receiver.cli import main
from receiver.errors import BadRequest, NotAtRetell, SettingsError, StoreBusy
from receiver.retell.batches import minutes
from receiver.retell.client import Retell
from receiver.sandbox.plans import BY_NAME
from receiver.sandbox.server import Sandbox
from receiver.store import show
from receiver.store.engine import reading
from tests.support.engines import url_of
from tests.support.proxies import Lost, Proxy
from tests.support.scripted import Scripted
from tests.support.webhooks import KEY

FROM, ANSWERED = "+12065550117", BY_NAME["answered"].number


@pytest.fixture(scope="module")
def box():
    with Sandbox(api_key=KEY, limits=None, concurrency=100) as box:
        yield box


@pytest.fixture
def api(box):
    with Retell(box.url, KEY) as api:
        yield api


@pytest.fixture
def run(box, database, monkeypatch):
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    monkeypatch.setenv("RETELL_BASE_URL", box.url)
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", url_of(database))
    return lambda *arguments, **options: CliRunner().invoke(main, ["retell", *arguments], **options)


def place(api, scenario="answered"):
    body = {"from_number": FROM, "to_number": BY_NAME[scenario].number}
    return api.create_phone_call(body).value["call_id"]


def begin(api, box):
    return api.create_chat({"agent_id": box.agents[0]}).value["chat_id"]


# -- the client ------------------------------------------------------------------------------------


def test_live_call_is_joined_updated_and_taken_over(api):
    call_id = place(api, "endless")
    listener = api.listen_live_call(call_id).value["participant_id"]
    fields = {"metadata": {"ticket": 7}, "override_dynamic_variables": {"plan": "gold"}}
    control = {"additional_context": "A ticket was opened.", "trigger_response": True}
    api.update_live_call(call_id, {"call_control": control, "fields_to_override": fields})
    with pytest.raises(BadRequest):
        api.take_over_live_call(call_id, "somebody else")
    assert api.take_over_live_call(call_id, listener).value == {"success": True}
    call = api.get_call(call_id).value
    assert call["disconnection_reason"] == "call_take_over"
    assert call["metadata"] == {"ticket": 7}
    assert call["retell_llm_dynamic_variables"]["plan"] == "gold"
    entries = call["transcript_with_tool_calls"]
    assert "A ticket was opened." in [entry.get("content") for entry in entries]
    for over in (api.listen_live_call, api.stop_call):
        with pytest.raises(BadRequest):
            over(call_id)


def test_registered_call_has_its_direction_and_numbers(api, box):
    body = {"agent_id": box.agents[0], "direction": "inbound", "from_number": ANSWERED}
    call = api.get_call(api.register_phone_call(body).value["call_id"]).value
    assert (call["direction"], call["from_number"]) == ("inbound", ANSWERED)
    assert call["call_status"] == "ended"


def test_web_call_is_joined_with_a_token(api, box):
    joined = api.create_web_call({"agent_id": box.agents[0]}).value
    assert api.get_call(joined["call_id"]).value["access_token"] == joined["access_token"]


def test_chat_is_written_in_ended_and_analysed(api, box):
    chat_id = begin(api, box)
    replies = api.create_chat_completion(chat_id, "Hello?").value["messages"]
    assert replies[-1]["role"] == "agent"
    attributes = {"campaign": "x", "other": 1}
    changes = {"metadata": {"a": 1}, "custom_attributes": attributes}
    changed = api.update_chat(chat_id, changes | {"override_dynamic_variables": {"b": "2"}}).value
    assert (changed["metadata"], changed["custom_attributes"]) == ({"a": 1}, {"campaign": "x"})
    api.end_chat(chat_id)
    box.settle(30)
    chat = api.get_chat(chat_id).value
    assert (chat["chat_status"], chat["metadata"]) == ("ended", {"a": 1})
    assert chat["transcript"].startswith("User: Hello?\nAgent: ")
    again = api.rerun_chat_analysis(chat_id).value
    assert again["chat_analysis"]["user_sentiment"] == "Positive"
    with pytest.raises(BadRequest):
        api.create_chat_completion(chat_id, "Still there?")
    api.delete_chat(chat_id)
    with pytest.raises(NotAtRetell):
        api.get_chat(chat_id)


def test_chat_by_sms_has_numbers_and_message(api):
    chat = api.create_sms_chat({"from_number": FROM, "to_number": "+14155550123"}).value
    assert (chat["direction"], chat["user_number"]) == ("outbound", "+14155550123")
    assert chat["message_with_tool_calls"][-1]["role"] == "agent"
    equal = {"type": "string", "op": "eq", "value": "+14155550123"}
    [listed] = api.list_chats({"filter_criteria": {"user_number": equal}}).value["items"]
    assert listed["chat_id"] == chat["chat_id"]
    assert "message_with_tool_calls" not in listed
    with pytest.raises(BadRequest):
        api.create_sms_chat({"from_number": FROM, "to_number": BY_NAME["refused-400"].number})


def test_account_says_what_it_has(api):
    assert api.get_concurrency().value["concurrency_limit"] == 100
    assert api.get_api_key_info().value["org_name"] == "Sandbox workspace"
    assert api.list_export_requests().value == {"items": [], "has_more": False}


def test_chat_events_are_sent(api, box):
    before = len(box.deliveries)
    box.webhook_url = "http://127.0.0.1:9/"
    try:
        api.end_chat(begin(api, box))
        box.settle(30)
    finally:
        box.webhook_url = None
    sent = [delivery.event for delivery in box.deliveries[before:]]
    assert sent == ["chat_started", "chat_ended", "chat_analyzed"]


# -- the commands ----------------------------------------------------------------------------------


def test_update_is_stored(run, api, database):
    call_id = place(api)
    done = run("update", call_id, "--metadata", "lead=7", "--attribute", "campaign=spring")
    assert done.output == "Updated.\n"
    call = show(database, call_id)
    assert (call["metadata"], call["custom_attributes"]) == ({"lead": "7"}, {"campaign": "spring"})


def test_storage_is_changed_only_after_a_question(run, api):
    call_id = place(api)
    arguments = ("update", call_id, "--storage", "basic_attributes_only")
    assert run(*arguments, input="n\n").exit_code == 130
    assert "transcript" in api.get_call(call_id).value
    assert run(*arguments, "--yes").exit_code == 0
    assert "transcript" not in api.get_call(call_id).value


def test_stop_and_analyse_ask_first(run, api, box, database):
    call_id, chat_id = place(api, "endless"), begin(api, box)
    assert run("stop", call_id, input="n\n").exit_code == 130
    assert api.get_call(call_id).value["call_status"] == "ongoing"
    assert run("say", call_id, "Hello.").output == "Sent.\n"
    assert run("stop", call_id, "--yes").output == "Ended.\n"
    assert run("stop", chat_id, "--chat", "--yes").output == "Ended.\n"
    box.settle(30)
    assert run("analyse", call_id, input="n\n").exit_code == 130
    assert run("analyse", chat_id, "--chat", "--yes").output == "Analysed.\n"
    assert show(database, chat_id)["chat_analysis"]["user_sentiment"] == "Positive"


def test_unknown_id_leads_to_the_option_for_chats(run):
    done = run("stop", "call_nobody", "--yes")
    assert isinstance(done.exception, NotAtRetell | SystemExit)
    assert done.exit_code != 0
    assert "add --chat" in done.output
    assert "add --chat" not in run("stop", "chat_nobody", "--chat", "--yes").output
    assert "add --chat" not in run("say", "call_nobody", "Hello.").output


@pytest.mark.parametrize("body", [b"null", b'{"call_id": "call_b"}', b'{"chat_id": "call_a"}'])
def test_answer_about_another_call_is_not_stored(run, database, monkeypatch, body):
    with Scripted([(200, {}, body)]) as server:
        monkeypatch.setenv("RETELL_BASE_URL", server.url)
        done = run("update", "call_a", "--metadata", "lead=7")
    assert (done.exit_code, "did not answer with this call" in done.output) == (1, True)
    with reading(database) as connection:
        assert connection.execute("SELECT count(*) FROM observations").fetchone() == (0,)


def test_unusable_database_changes_nothing_at_retell(run, api, tmp_path, monkeypatch):
    (tmp_path / "other.db").write_text("This is not a SQLite database.", encoding="utf-8")
    monkeypatch.setenv("CALLHOUSE_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    call_id = place(api)
    assert run("update", call_id, "--metadata", "lead=7").exit_code == 2
    assert not api.get_call(call_id).value.get("metadata")


def test_change_that_is_not_stored_is_an_error(run, api, store, monkeypatch):
    def fail(self, received):
        raise StoreBusy("busy")

    monkeypatch.setattr(type(store), "add", fail)
    done = run("update", place(api), "--metadata", "lead=7")
    assert done.exit_code == 1
    assert "the call was changed at Retell, but not stored: busy" in done.output
    assert "callhouse sync --since DAY" in done.output


def test_batch_is_placed_by_retell(run, box, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f"to_number,var.name\n{ANSWERED},Ann\n+14155550124,Bob\n", encoding="utf-8")
    arguments = ("batch", str(path), "--from", FROM, "--window", "9:00-17:00", "--day", "Monday")
    before = set(box.calls)
    assert run(*arguments, input="n\n").exit_code == 130
    assert set(box.calls) == before
    done = run(*arguments, "--yes")
    made = [call for call_id, call in box.calls.items() if call_id not in before]
    assert {call["batch_call_id"] for call in made} == {done.output.strip()}
    assert [call["retell_llm_dynamic_variables"]["name"] for call in made] == ["Ann", "Bob"]


def test_batch_is_placed_once(run, box, tmp_path):
    path = tmp_path / "list.csv"
    path.write_text(f"to_number\n{ANSWERED}\n+14155550131\n", encoding="utf-8")
    arguments = ("batch", str(path), "--from", FROM, "--yes")
    before = set(box.calls)
    run(*arguments)
    placed = set(box.calls) - before
    with path.open("a", encoding="utf-8") as file:
        file.write("+14155550132\n")
    again, third = run(*arguments), run(*arguments)
    assert "Left out, as the journal has them: 2." in again.output
    assert third.output == "Left out, as the journal has them: 3.\n"
    added = [box.calls[call_id] for call_id in set(box.calls) - before - placed]
    assert [call["to_number"] for call in added] == ["+14155550132"]


@pytest.mark.parametrize("is_placed", [True, False])
def test_lost_answer_places_no_second_batch(run, box, tmp_path, monkeypatch, is_placed):
    """The connection breaks after Retell has placed the batch, or before."""
    path = tmp_path / "list.csv"
    path.write_text("to_number\n+14155550133\n+14155550134\n", encoding="utf-8")
    arguments = ("batch", str(path), "--from", FROM, "--yes")

    def break_off(method, path, *_):
        if path == "/create-batch-call":
            raise Lost

    def break_before(method, path, headers, body):
        break_off(method, path)
        return headers, body

    before = set(box.calls)
    broken = {"after": break_off} if is_placed else {"before": break_before}
    with Proxy(box.url, **broken) as proxy:
        monkeypatch.setenv("RETELL_BASE_URL", proxy.url)
        assert run(*arguments).exit_code == 1
    monkeypatch.setenv("RETELL_BASE_URL", box.url)
    assert len(set(box.calls) - before) == 2 * is_placed
    again = run(*arguments)
    if is_placed:
        assert again.output == "Left out, as the journal has them: 2.\n"
    else:
        assert again.exit_code == 1
        assert "Retell lists none of their calls" in again.output
        assert run(*arguments, "--resend").exit_code == 0
    assert run(*arguments, "--resend").output == "Left out, as the journal has them: 2.\n"
    assert len(set(box.calls) - before) == 2


def test_refused_batch_is_sent_again(run, box, tmp_path, monkeypatch):
    path = tmp_path / "list.csv"
    path.write_text("to_number\n+14155550135\n", encoding="utf-8")
    arguments = ("batch", str(path), "--from", FROM, "--yes")
    monkeypatch.setenv("RETELL_API_KEY", "key_of_nobody")
    assert run(*arguments).exit_code == 1
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    assert run(*arguments).output.startswith("batch_call_")


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ("to_number\n0415\n", "line 2: to_number is not an E.164 number"),
        (
            f"to_number,from_number\n{ANSWERED},+14155550190\n",
            "line 2: a batch has one from_number",
        ),
        (f"to_number,honor_internal_dnc\n{ANSWERED},true\n", "have no honor_internal_dnc"),
        ("to_number\n", "the list has no rows"),
    ],
)
def test_batch_with_an_unusable_row_is_not_sent(run, box, tmp_path, rows, why):
    (tmp_path / "list.csv").write_text(rows, encoding="utf-8")
    before = set(box.calls)
    done = run("batch", str(tmp_path / "list.csv"), "--from", FROM, "--yes")
    assert done.exit_code == 2
    assert why in done.output
    assert set(box.calls) == before


@pytest.mark.parametrize("text", ["9-17", "9:60-17:00", "17:00-9:00", "9:00-24:01", ""])
def test_invalid_window_is_refused(text):
    with pytest.raises(SettingsError):
        minutes(text)


def test_requested_export_is_printed(run, box):
    before = len(json.loads(run("account", "--json").output)["exports"]["items"])
    box.request_export("call")
    box.request_export("chat")
    found = json.loads(run("account", "--json").output)["exports"]["items"]
    assert [each["channel"] for each in found[:2]] == ["chat", "call"]
    assert len(found) == before + 2
    assert f"exports    {before + 2}" in run("account").output


def test_exports_of_all_pages_are_counted(run, monkeypatch):
    one = b'{"items": [{}, {}], "has_more": true, "pagination_key": "p"}'
    answers = [
        (200, {}, body) for body in (b"{}", b"{}", one, b'{"items": [{}], "has_more": false}')
    ]
    with Scripted(answers) as server:
        monkeypatch.setenv("RETELL_BASE_URL", server.url)
        assert "exports    3" in run("account").output


def test_account_is_printed(run):
    assert "Sandbox workspace" in run("account").output
    assert json.loads(run("account", "--json").output)["concurrency"]["concurrency_limit"] == 100
