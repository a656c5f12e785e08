"""What a call may say is checked before anything leaves."""

import pytest

from receiver.errors import SettingsError, UnusableCall
from receiver.retell.placing import FIELDS, METADATA_MAX_BYTES, check, merged, pairs, place_call
from tests.support.webhooks import KEY

TO, FROM = "+14155550123", "+14155550100"


def body(**fields):
    return {"to_number": TO, "from_number": FROM, **fields}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"override_agent_version": 0},
        {"override_agent_version": "latest_published"},
        {"metadata": {"nested": [1, {"x": None}]}},
        {"retell_llm_dynamic_variables": {"name": "Ann", "empty": ""}},
        {"custom_sip_headers": {"X-Campaign": "spring"}},
        {"ignore_e164_validation": True, "to_number": "1234", "from_number": "front-desk"},
        {"agent_override": {"agent": {"voice_id": "x"}}, "honor_internal_dnc": True},
        {"to_number": "+3222222222", "idempotency_key": "k"},
    ],
)
def test_a_call_that_retell_would_take_is_usable(fields):
    check(body(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"to_number": "4155550123"}, "to_number is not an E.164 number"),
        ({"to_number": "+1 415 555 0123"}, "to_number is not an E.164 number"),
        ({"to_number": "+04155550123"}, "to_number is not an E.164 number"),
        ({"to_number": "+1415555012345678"}, "to_number is not an E.164 number"),
        ({"to_number": "+1415555012٣"}, "to_number is not an E.164 number"),
        ({"to_number": TO + "\n"}, "to_number is not an E.164 number"),
        ({"to_number": 14155550123}, "to_number is missing"),
        ({"from_number": None}, "from_number is missing"),
        ({"from_number": "", "ignore_e164_validation": True}, "from_number is missing"),
        ({"override_agent_id": ""}, "override_agent_id must be a string"),
        ({"override_agent_version": -1}, "override_agent_version is not a valid version"),
        ({"override_agent_version": True}, "override_agent_version is not a valid version"),
        ({"override_agent_version": ""}, "override_agent_version is not a valid version"),
        ({"agent_override": []}, "agent_override is not an object"),
        ({"metadata": "x"}, "metadata is not an object"),
        ({"metadata": {"x": "y" * METADATA_MAX_BYTES}}, "metadata is longer than 50000 bytes"),
        ({"metadata": {"x": "é" * 25_000}}, "metadata is longer than 50000 bytes"),
        ({"retell_llm_dynamic_variables": {"age": 42}}, "dynamic_variables must be an object of"),
        ({"custom_sip_headers": {"X-Age": 42}}, "custom_sip_headers must be an object of strings"),
        ({"custom_sip_headers": {"Campaign": "x"}}, "a SIP header is invalid"),
        ({"custom_sip_headers": {"X-A": "x\r\nX-B: y"}}, "a SIP header is invalid"),
        ({"ignore_e164_validation": "yes"}, "ignore_e164_validation must be true or false"),
        ({"idempotency_key": ""}, "idempotency_key must be a string"),
        ({"dynamic_variables": {}}, "the body has an unknown field"),
    ],
)
def test_invalid_call_is_not_sent(fields, message):
    with pytest.raises(UnusableCall) as caught:
        check(body(**fields))
    assert message in str(caught.value)
    assert "0123" not in str(caught.value)


def test_metadata_has_retells_maximum_length():
    check(body(metadata={"x": "y" * (METADATA_MAX_BYTES - len('{"x":""}'))}))


def test_a_misspelt_field_is_refused_with_the_nearest():
    with pytest.raises(UnusableCall) as caught:
        check(body(retell_llm_dynamic_variable={}))
    assert caught.value.hint == "Did you mean retell_llm_dynamic_variables?"


def test_pairs_keep_everything_behind_the_first_equals_sign():
    assert pairs(["a=b=c", "empty="], option="--var") == {"a": "b=c", "empty": ""}
    for text in ("a", "=b", ""):
        with pytest.raises(UnusableCall, match="--var needs KEY=VALUE"):
            pairs([text], option="--var")


def test_later_values_win_and_objects_merge():
    base = {"from_number": "a", "metadata": {"x": 1, "y": 2}}
    over = {"from_number": None, "metadata": {"y": 3}, "to_number": "b"}
    assert merged(base, over) == {
        "from_number": "a",
        "metadata": {"x": 1, "y": 3},
        "to_number": "b",
    }
    assert base["metadata"] == {"x": 1, "y": 2}


def test_the_function_takes_every_field_of_a_call():
    names = set(place_call.__annotations__) - {"return", "settings", "account"}
    assert names == set(FIELDS)


def test_function_needs_a_key_and_valid_arguments(monkeypatch):
    with pytest.raises(SettingsError, match="RETELL_API_KEY is not set"):
        place_call(TO, from_number=FROM)
    monkeypatch.setenv("RETELL_API_KEY", KEY)
    with pytest.raises(UnusableCall):
        place_call("not a number", from_number=FROM)
