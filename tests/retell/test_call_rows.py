"""A CSV file as rows to call, and the journal beside it."""

import json

import pytest

from receiver.errors import SettingsError
from receiver.retell.call_lists import COLUMNS, PREFIXES, read_rows
from receiver.retell.journal import SUFFIX, Entry, Journal

FROM = {"from_number": "+14155550100"}


def read(text, *, name="list.csv", run_id="run", **defaults):
    return read_rows(text, name=name, run_id=run_id, defaults=FROM | defaults)


def test_columns_become_the_fields_of_a_call():
    [row] = read(
        "to_number,from_number,override_agent_id,override_agent_version,metadata.lead,"
        "metadata.lead.id,var.name,sip_header.X-Team,honor_internal_dnc\n"
        "+14155550123,+14155550101,agent_a,3,7,8,Ann Lee,spring,TRUE\n"
    )
    assert row.problem is None
    marker = row.body["metadata"].pop("callhouse_row")
    assert row.body == {
        "to_number": "+14155550123",
        "from_number": "+14155550101",
        "override_agent_id": "agent_a",
        "override_agent_version": 3,
        "metadata": {"lead": "7", "lead.id": "8"},
        "retell_llm_dynamic_variables": {"name": "Ann Lee"},
        "custom_sip_headers": {"X-Team": "spring"},
        "honor_internal_dnc": True,
        "idempotency_key": row.key,
    }
    assert marker.startswith("run-")


def test_options_fill_empty_cells():
    rows = read(
        "to_number,from_number,var.name\n+14155550123,,\n+14155550124,+14155550102,Ann\n",
        retell_llm_dynamic_variables={"name": "there", "shop": "Hill"},
    )
    assert [row.body["from_number"] for row in rows] == ["+14155550100", "+14155550102"]
    assert [row.body["retell_llm_dynamic_variables"] for row in rows] == [
        {"name": "there", "shop": "Hill"},
        {"name": "Ann", "shop": "Hill"},
    ]


def test_invalid_row_has_reason_and_others_none():
    rows = read("to_number\n+14155550123\n0415\n\n+14155550124,extra\n")
    assert [(row.line, row.problem) for row in rows] == [
        (2, None),
        (3, "to_number is not an E.164 number"),
        (5, "more cells than the header"),
    ]


def test_repeated_number_is_called_once():
    first, again = read("to_number,var.name\n+14155550123,Ann\n +14155550123 ,Bob\n")
    assert first.problem is None
    assert "the same number as in line 2" in again.problem


def test_a_number_is_called_twice_for_two_keys():
    rows = read("to_number,idempotency_key\n+14155550123,a\n+14155550123,b\n+14155550124,a\n")
    assert [row.key for row in rows] == ["a", "b", "a"]
    assert [row.problem for row in rows] == [None, None, "the same idempotency_key as in line 2"]


def test_a_correction_beside_the_number_calls_nobody_again():
    [before] = read("to_number,var.name\n+14155550123,An\n")
    [after] = read("to_number,metadata.x,var.name\n+14155550123,1,Ann\n", override_agent_id="a")
    [elsewhere] = read("to_number\n+14155550123\n", name="other.csv")
    assert before.key == after.key != elsewhere.key


def test_lists_of_the_same_name_are_distinguished():
    [one], [two] = (read("to_number\n+14155550123\n", run_id=run) for run in "ab")
    assert one.key == two.key
    assert one.marker != two.marker


def test_lists_as_spreadsheets_write_them():
    text = 'to_number;var.name\r\n+14155550123;"Lee; Ann\r\nand Bob"\r\n\r\n'
    [row] = read(text)
    assert row.body["retell_llm_dynamic_variables"] == {"name": "Lee; Ann\r\nand Bob"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column to_number"),
        ("number\n+14155550123\n", "no column to_number"),
        ("to_number,metdata.x\n", "unknown column 'metdata.x'"),
        ("to_number,var.\n", "unknown column 'var.'"),
        ("to_number,to_number\n", "is there twice"),
        ('to_number\n"+14155550123\n', "is not CSV"),
        ('to_number\n"a"b\n', "is not CSV"),
    ],
)
def test_an_unusable_file_is_refused_as_a_whole(text, message):
    with pytest.raises(SettingsError, match=message):
        read(text)


def test_a_misspelt_column_is_refused_with_the_nearest():
    with pytest.raises(SettingsError) as caught:
        read("to_number,metdata.x\n")
    assert caught.value.hint == "Did you mean metadata.NAME?"


def test_every_column_is_documented(request):
    text = (request.config.rootpath / "docs/reference/calling.md").read_text(encoding="utf-8")
    for name in [*COLUMNS, *(f"{prefix}.NAME" for prefix in PREFIXES)]:
        assert f"`{name}`" in text, name


# -- the journal ---------------------------------------------------------------------------------


@pytest.fixture
def csv_path(tmp_path):
    return tmp_path / "list.csv"


def test_a_journal_remembers_the_last_of_each_row(csv_path):
    with Journal(csv_path) as journal:
        run_id = journal.run_id
        for key in "abcd":
            journal.sent(key, at_ms=5)
        journal.refused("b")
        journal.placed("c", "call_c")
        journal.placed("d", "call_d")
        journal.stored("d")
    with Journal(csv_path) as journal:
        assert journal.run_id == run_id
        assert [journal.entry(key) for key in "abcde"] == [
            Entry("sent", 5),
            Entry("refused", 5),
            Entry("placed", 5, "call_c"),
            Entry("stored", 5, "call_d"),
            None,
        ]


def test_incomplete_journal_line_is_ignored(csv_path):
    with Journal(csv_path) as journal:
        journal.sent("a", at_ms=5)
    path = csv_path.with_name("list.csv" + SUFFIX)
    whole = path.read_bytes()
    for cut in (b'{"key": "b", "sta', b'{"key": "b", "state": "sent", "sent_at_ms": 5}', b"\0\0"):
        path.write_bytes(whole + cut)
        with Journal(csv_path) as journal:
            assert journal.entry("b") is None
            journal.placed("a", "call_a")
            assert journal.entry("a").call_id == "call_a"
        lines = path.read_bytes().splitlines()
        assert json.loads(lines[-1])["state"] == "placed"
        path.write_bytes(whole)


def test_concurrent_runs_of_one_list_are_refused(csv_path):
    with Journal(csv_path), pytest.raises(SettingsError, match="another run"):
        Journal(csv_path)


@pytest.mark.parametrize("text", ["not json\n", "[]\n", '{"key":"a"}\n', '{"key":"a","x":1}\n'])
def test_another_file_in_the_journals_place_is_refused(csv_path, text):
    csv_path.with_name("list.csv" + SUFFIX).write_text(text)
    with pytest.raises(SettingsError, match="not a journal"):
        Journal(csv_path)


def test_a_journal_that_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot write"):
        Journal(tmp_path / "nowhere" / "list.csv")


def test_a_journal_holds_no_number(csv_path):
    with Journal(csv_path) as journal:
        [row] = read("to_number\n+14155550123\n")
        journal.sent(row.key, at_ms=5)
        assert b"4155550123" not in journal.path.read_bytes()
