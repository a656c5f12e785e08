"""Kestrel & Vale: how a claim is getting on. British English, custom LLM."""

from __future__ import annotations

from receiver.sandbox.script import Ending, Script, agent, maybe, tool, user
from receiver.sandbox.scripts import asides
from receiver.sandbox.scripts.accidents import ACCIDENTS, claim_analysis

CLAIM_STATUS = Script(
    name="claim status",
    language="en-GB",
    goal="the claim was found",
    choices=(ACCIDENTS,),
    opening=(
        agent("Kestrel and Vale, Edith speaking. Are you calling about a new or an open claim?"),
        user(
            "An open one. The name's {customer}, claim C, {ref}.",
            "Hello Edith, just checking on my claim. It's C {ref}.",
        ),
        tool("find_claim", {"claim": "C-{ref}"}, {"status": "repair", "estimate": "{estimate}"}),
        agent("Thank you, {first}. I can see it."),
    ),
    endings=(
        Ending(
            name="good news",
            steps=(
                agent("The garage finished this morning. You can pick it up from {weekday}."),
                user("Oh, that's quicker than I thought! Do I pay anything there?"),
                agent("Only the excess, {excess} pounds. We settle the rest with them directly."),
                *asides.ENGLISH,
                maybe(
                    0.5,
                    user("And the hire car, where does that go back?"),
                    agent("Leave it at the garage with the keys. They'll sort it out."),
                ),
                user("Marvellous. Thank you, Edith.", "Great stuff. Cheers, bye."),
                agent("You're welcome. Enjoy having it back!"),
            ),
            summary="{customer} asked about claim C-{ref}; the car is ready from {date}.",
            analysis=claim_analysis(False, next_step="collect car"),
        ),
        Ending(
            name="still waiting",
            steps=(
                agent("I'm afraid the part is still on order. The garage hopes for {weekday}."),
                user("That's what they said a fortnight ago. It really isn't good enough."),
                agent("I quite agree, and I'm sorry. I'll ask them for a firm date today."),
                user("Please do. Goodbye."),
            ),
            summary="{customer} is unhappy that the repair under claim C-{ref} is delayed.",
            analysis=claim_analysis(False, next_step="chase garage"),
            successful=False,
            sentiment="Negative",
        ),
    ),
)
