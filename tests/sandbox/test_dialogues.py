"""The sandbox's dialogues, as the files that people edit hold them."""

import re
from random import Random

from receiver.sandbox.companies import decided, dialogues, person, working_day
from receiver.sandbox.templates import fill, read_data
from tests.support import ROOT

DAY_START_MS = 1_772_409_600_000  # 2026-03-02, a Monday


def test_every_dialogue_plays_to_its_end():
    for name, dialogue in dialogues().items():
        for ending in dialogue.endings:
            for seed in range(20):
                rng = Random(seed)
                slots = person(rng, "US") | working_day(rng, DAY_START_MS, dialogue.language)
                for choice in dialogue.choices:
                    slots |= rng.choice(choice)
                for step in decided((*dialogue.opening, *ending.steps), rng):
                    kind, value = next(iter(step.items()))
                    if kind in ("agent", "user", "transfer_target"):
                        texts = [value] if isinstance(value, str) else value
                        # A word in braces that nobody fills in is a KeyError.
                        assert all(text.format_map(slots).strip() for text in texts), name
                assert fill(ending.summary, slots).strip(), name


def test_every_step_of_a_dialogue_is_documented():
    steps = (
        (ROOT / "docs/reference/sandbox.md")
        .read_text("utf-8")
        .split("names its kind:")[1]
        .split("##")[0]
    )
    documented = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`[^|]*`) \|", steps, re.M))))
    used = set()

    def walk(told):
        for step in told:
            used.add(next(iter(step)))
            for key in ("steps", "during"):
                walk(step.get(key, ()))
            for option in step.get("either", ()):
                walk(option)

    for steps in read_data("data/asides.yaml").values():
        walk(steps)
    for file in (ROOT / "receiver/sandbox/data/dialogues").glob("*.yaml"):
        for told in read_data(f"data/dialogues/{file.name}").values():
            walk(told["opening"])
            for ending in told["endings"]:
                walk(ending["steps"])
    assert used <= documented
    assert {"agent", "tool", "either", "repeat", "asides"} <= used
