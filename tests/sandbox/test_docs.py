"""The docs say what the sandbox does, and its example runs."""

import re
from dataclasses import fields
from random import Random

from click.testing import CliRunner

from receiver.cli import main
from receiver.sandbox.chat_operations import ChatOperations
from receiver.sandbox.companies import Account
from receiver.sandbox.deliveries import Mischief
from receiver.sandbox.operations import AgentOperations, CallOperations
from receiver.sandbox.orders import CUSTOM_ATTRIBUTES
from receiver.sandbox.plans import SCENARIOS
from receiver.sandbox.server import Sandbox, create_app
from receiver.sandbox.workspace import Workspace
from tests.support import ROOT
from tests.support.webhooks import KEY

DOCS = ROOT / "docs"
DOC = (DOCS / "reference/sandbox.md").read_text(encoding="utf-8")
GUIDE = (DOCS / "how-to/sandbox.md").read_text(encoding="utf-8")


def test_every_scenario_is_documented_with_its_number():
    for scenario in SCENARIOS:
        row = f"| `{scenario.number}` | `{scenario.name}` | {' '.join(scenario.meaning.split())} |"
        assert row in DOC


def test_every_option_of_the_command_is_documented():
    for option in main.commands["sandbox"].params:
        assert f"| `{option.opts[0]}` |" in DOC


def test_every_mischief_is_an_option():
    names = {field.name for field in fields(Mischief)}
    assert names <= {param.name for param in main.commands["sandbox"].params}


def test_every_route_is_documented_and_no_other():
    workspace = Workspace(Account(Random(1)))
    app = create_app(
        CallOperations(workspace=workspace, reporter=None, scenario=None, concurrency=1),
        ChatOperations(workspace=workspace, reporter=None),
        AgentOperations(workspace),
        api_key=KEY,
        limits={},
        say=lambda *_: None,
    )
    served = {
        f"{method} {rule.rule.replace('<path:', '{').replace('<', '{').replace('>', '}')}"
        for rule in app.url_map.iter_rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    assert set(re.findall(r"^\| `(\w+ /[^`]+)` \|", DOC, re.MULTILINE)) == served


def test_the_attributes_of_the_account_are_named():
    for name in CUSTOM_ATTRIBUTES:
        assert f"`{name}`" in DOC


def test_the_example_runs():
    code = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1]
    names = {}
    exec(code, names)
    with Sandbox(api_key=names["KEY"], seed=1) as sandbox:
        names["test_a_busy_line_is_not_an_answer"](sandbox)


def test_the_command_refuses_what_it_cannot_use():
    for arguments in (["--bind", "nowhere"], ["--scenario", "rainy"], ["--drop", "2"]):
        result = CliRunner().invoke(main, ["sandbox", *arguments])
        assert result.exit_code == 2, arguments
