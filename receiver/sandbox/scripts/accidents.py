"""Kestrel & Vale: what befell the cars, and what an analysis asks about it."""

from __future__ import annotations

from receiver.sandbox.script import Slots

ACCIDENTS: tuple[Slots, ...] = (
    {
        "cause": "another car reversed into it",
        "accident": "somebody reversed into me in the supermarket car park",
        "damage": "The back door is dented and the window is cracked.",
        "story": "I was parked in the row by the trolleys, just putting the shopping in the boot, "
        "and this big blue van came backwards out of the space behind me. I shouted, I even "
        "knocked on his side, but he had the radio on. He was ever so sorry afterwards, mind you.",
        "excess": 150,
        "roughly": "eight hundred",
        "estimate": 820.5,
    },
    {
        "cause": "it slid on ice into a gatepost",
        "accident": "I slid on some ice and hit a gatepost",
        "damage": "The left wing is crumpled and one headlight is gone.",
        "story": "It was about half past six and still dark. I came down the lane at no speed at "
        "all, twenty at most, and where the stream crosses it was sheer ice. I turned the wheel "
        "and nothing happened. The gatepost is fine, by the way. It has seen off worse than me.",
        "excess": 250,
        "roughly": "fifteen hundred",
        "estimate": 1460,
    },
    {
        "cause": "a deer ran in front of it",
        "accident": "a deer ran out in front of me just outside the village",
        "damage": "The bonnet won't close and there is steam coming out, but I'm fine, thank God.",
        "story": "There were two of them. The first one jumped the hedge and I braked, and I "
        "thought, that was lucky, and then the second one came. It got up and ran off into the "
        "wood. I sat there for ten minutes before I could find my telephone.",
        "excess": 250,
        "roughly": "three thousand",
        "estimate": 2935.75,
    },
)


def claim_analysis(opened: bool, **more: object) -> dict[str, object]:
    """Return the custom analysis of a call; `more` overrules the usual values."""
    return {
        "claim_opened": opened,
        "policy_number": "KV-{ref}",
        "injuries?": False,
        "estimated_damage_gbp": "{estimate}",
        "next_step": "garage",
    } | more
