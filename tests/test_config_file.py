"""callhouse.toml -> a frozen object: strict, and silent about values."""

import pytest

from receiver import config
from receiver.config_file import INTERVALS, Backup, ConfigFile, Target
from receiver.errors import SettingsError
from receiver.grading_settings import GradingSettings, Question
from tests.support import ROOT

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
WHOLE = f"""
public_url = "https://calls.example.com/webhook"

[jobs]
sync = 900
backup = 0

[backup]
to = "/srv/backups"
keep = 3

[[forward]]
name = "n8n"
url = "http://10.0.0.7:5678/webhook/retell"

[[forward]]
name = "crm"
url = "https://crm.example.com/hook"
events = ["call_analyzed"]
sign = "standard"
secret = "{SECRET}"

[grading]
model = "gpt-4o-mini"
text = "full"
requests_per_day = 5
price_per_million_input_tokens = 1
price_per_million_output_tokens = 2.5

[[grading.question]]
name = "polite"
ask = "How polite was the agent?"
answer = "1-3"
where = "agent_id = 'a'"
sample = 20
"""

_QUESTION = "[grading]\nmodel = 'm'\n[[grading.question]]\nname = 'q'\nask = 'why'\n"


def load(tmp_path, text, **environ):
    (tmp_path / "callhouse.toml").write_text(text, "utf-8")
    return config.load(environ).file


def message(tmp_path, text):
    with pytest.raises(SettingsError) as error:
        load(tmp_path, text)
    assert error.value.hint
    return str(error.value)


def test_without_a_file_the_defaults_apply():
    assert config.load({}).file == ConfigFile()
    assert ConfigFile().intervals == INTERVALS


def test_every_setting_of_the_file_is_read(tmp_path):
    found = load(tmp_path, WHOLE)
    assert found.public_url == "https://calls.example.com/webhook"
    assert found.intervals == INTERVALS | {"sync": 900, "backup": 0}
    assert found.backup == Backup("/srv/backups", 3)
    n8n, crm = found.forward
    assert n8n == Target("n8n", "http://10.0.0.7:5678/webhook/retell")
    assert (crm.events, len(crm.secret)) == ({"call_analyzed"}, 24)
    assert [target.wants("call_ended") for target in found.forward] == [True, False]
    polite = Question("polite", "How polite was the agent?", ("1", "2", "3"), "agent_id = 'a'", 20)
    assert found.grading == GradingSettings("gpt-4o-mini", "full", 5, 1.0, 2.5, (polite,))


def test_named_file_must_exist(tmp_path):
    with pytest.raises(SettingsError, match="there is no file other"):
        config.load({"CALLHOUSE_CONFIG": "other.toml"})
    (tmp_path / "other.toml").write_text("[jobs]\nsync = 60", "utf-8")
    assert config.load({"CALLHOUSE_CONFIG": "other.toml"}).file.intervals["sync"] == 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jobz = 1", "the file has no setting jobz; did you mean jobs?"),
        ("jobs = 1", "jobs must be a table"),
        ("[jobs]\nsink = 1", "[jobs] has no setting sink; did you mean sync?"),
        ("[jobs]\nsync = -1", "jobs.sync, in seconds, must be a whole number"),
        ("[jobs]\nsync = true", "jobs.sync, in seconds, must be a whole number"),
        ("[jobs]\nsync = 1.5", "jobs.sync, in seconds, must be a whole number"),
        ("[backup]\nkeep = 0", "backup.keep must be a whole number from 1"),
        ("[backup]\nto = 1", "backup.to must be text"),
        ("public_url = 'calls.example.com'", "public_url must be a URL"),
        ("[forward]\nname = 'a'", "written under [[forward]]"),
        ("[[forward]]\nurl = 'http://a/'", "needs a name"),
        ("[[forward]]\nname = 'a'", "url of the target a must be a URL"),
        ("[[forward]]\nname = 'a'\nurl = 'ftp://a'", "url of the target a must be a URL"),
        ("[[forward]]\nname = 'a'\nurl = 'http://a/'\nevents = 'x'", "must be a list of names"),
        ("[[forward]]\nname = 'a'\nurl = 'http://a/'\nsign = 'x'", 'must be "retell" or'),
        ("[[forward]]\nname = 'a'\nurl = 'http://a/'\nsign = 'standard'", "a secret belongs"),
        ("[[forward]]\nname = 'a'\nurl = 'http://a/'\nsecret = 'whsec_AA'", "a secret belongs"),
        (2 * "[[forward]]\nname = 'a'\nurl = 'http://a/'\n", "two targets"),
        ("[jobs", "is not TOML (at end of document)"),
        ("[grading]", "grading.model must be the name of a model"),
        ("[grading]\nmodel = 'm'\ntext = 'all'", 'must be "scrubbed" or "full"'),
        ("[grading]\nmodel = 'm'\nrequests_per_day = 0", "requests_per_day must be a whole"),
        ("[grading]\nmodel = 'm'\nprice_per_million_input_tokens = 1", "needs both prices"),
        (f"{_QUESTION}answer = 'maybe'", 'answer of the question q must be "yes_no" or'),
        (f"{_QUESTION}answer = '5-1'", 'answer of the question q must be "yes_no" or'),
        (f"{_QUESTION}sample = 0", "sample of the question q must be a whole number"),
        (f"{_QUESTION}where = 1", "where of the question q must be a condition"),
        (_QUESTION.replace("why", ""), "ask of the question q must be text"),
    ],
)
def test_error_names_the_setting(tmp_path, text, expected):
    assert expected in message(tmp_path, text)


@pytest.mark.parametrize("secret", ["s3cret", "whsec_s3cret!", "whsec_czNjcmV0"])
def test_wrong_secret_is_not_repeated(tmp_path, secret):
    text = f"[[forward]]\nname = 'a'\nurl = 'http://a/'\nsign = 'standard'\nsecret = '{secret}'"
    assert secret not in message(tmp_path, text)
    assert secret not in message(tmp_path, f"{text}\nsecret = 1")


def test_unreadable_file_is_named(tmp_path):
    (tmp_path / "callhouse.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"callhouse\.toml is not UTF-8"):
        config.load({})


def test_secret_is_not_in_the_representation(tmp_path):
    assert "secret" not in repr(load(tmp_path, WHOLE))


def test_every_job_is_documented_with_its_interval():
    text = (ROOT / "docs/reference/config-file.md").read_text("utf-8")
    for name, seconds in INTERVALS.items():
        assert f"| `{name}` | {seconds} |" in text
