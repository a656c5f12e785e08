"""Kestrel & Vale: motor claims taken. British English, a custom LLM."""

from __future__ import annotations

from receiver.sandbox.script import (
    Ending,
    Pause,
    Script,
    agent,
    either,
    maybe,
    one_of,
    tool,
    user,
)
from receiver.sandbox.scripts import asides
from receiver.sandbox.scripts.accidents import ACCIDENTS, claim_analysis
from receiver.sandbox.scripts.handovers import HANDOVERS

_PLATES = one_of("plate", "K V seven two, T L R", "B D two one, X H M", "F J six eight, O P W")

CLAIM = Script(
    name="motor claim",
    language="en-GB",
    goal="the claim was opened",
    choices=(ACCIDENTS, _PLATES),
    opening=(
        agent(
            "Kestrel and Vale claims, good day. You're speaking with Edith. What's happened?",
            "Hello, Kestrel and Vale, Edith speaking. How can I help?",
        ),
        user(
            "Oh, hello. I've had a bit of an accident, I'm afraid. Well, {accident}.",
            "Hi there. I need to make a claim on my car. It was this morning, {accident}.",
        ),
        agent("I'm so sorry to hear that. First things first: is everybody all right?"),
        user(
            "Yes, yes, nobody's hurt. Just a bit shaken.", "We're all fine, thank you for asking."
        ),
        agent("That's the main thing. Could you give me your policy number?"),
        either(
            (user("It's K V, {ref}."),),
            (
                user("It's in the glove box. Bear with me, I'll go out to the car."),
                Pause(38, 70),
                user("Right, here we are. K V, {ref}. Sorry about that."),
                agent("Not at all, take all the time you need."),
            ),
        ),
        tool("find_policy", {"number": "KV-{ref}"}, {"holder": "{customer}", "excess": "{excess}"}),
        agent("Thank you. So I'm speaking with {customer}. And the registration of the car?"),
        user("{plate}."),
        agent("Perfect, that matches. Tell me about the damage, as well as you can see it."),
        user("{damage}", "Let me walk round it. {damage}"),
        maybe(
            0.6,
            agent("And how did it come about? Start wherever you like."),
            user("{story}"),
            agent("Thank you, that is very clear. I've written it down just as you said."),
            user("Will I have to say all this again to somebody else?"),
            agent("No, once is enough. Everybody here works from the same notes."),
        ),
    ),
    endings=(
        Ending(
            name="opened",
            steps=(
                agent("Can you still drive it, or shall I send somebody to collect it?"),
                either(
                    (user("It drives. It just looks rather sad."),),
                    (
                        user("I wouldn't risk it, to be honest."),
                        tool("order_recovery", {"policy": "KV-{ref}"}, {"eta_minutes": 65}),
                        agent("Recovery will be with you in about an hour. Wait somewhere warm."),
                    ),
                ),
                *asides.ENGLISH,
                agent("Did you get the details of anybody who saw it happen?"),
                user("There was one lady, yes. I took a photo of her card.", "No, only the birds."),
                tool(
                    "open_claim",
                    {"policy": "KV-{ref}", "estimate": "{estimate}"},
                    {"claim": "C-{ref}", "garage": "Pennard Motors"},
                    seconds=(1.4, 4.2),
                ),
                agent(
                    "Your claim is open, the number is C, {ref}. Pennard Motors will ring you on "
                    "{phone} to arrange a day. Your excess is {excess} pounds."
                ),
                maybe(
                    0.5,
                    user("And do I get a car while mine is in the garage?"),
                    tool("check_cover", {"policy": "KV-{ref}"}, {"courtesy_car": True}),
                    agent(
                        "You do, a small one, for up to fourteen days. They'll have it ready when "
                        "you drop yours off. Bring your licence and a bank card."
                    ),
                    user("What about petrol?"),
                    agent("It comes full and goes back full. That's all there is to it."),
                ),
                user("Will this affect my no-claims bonus?"),
                agent(
                    "That depends on who is found at fault. The letter will explain it, and I "
                    "have put in a good word about how calm you were."
                ),
                user(
                    "Ha! You're very kind. Thank you ever so much.",
                    "All right. Thanks for being so clear about everything.",
                ),
                agent("My pleasure, {first}. Drive safely, and put the kettle on."),
            ),
            summary="{customer} reported an accident with the car: {cause}. Nobody was hurt. Claim "
            "C-{ref} was opened and the garage will call.",
            analysis=claim_analysis(True),
            reason="agent_hangup",
        ),
        *HANDOVERS,
    ),
)
