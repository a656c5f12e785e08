"""Brightroof Solar: an outbound campaign that asks who might want panels. American English."""

from __future__ import annotations

from receiver.sandbox.script import (
    Ending,
    Script,
    Slots,
    agent,
    either,
    maybe,
    tool,
    user,
)
from receiver.sandbox.scripts import asides

_HOMES: tuple[Slots, ...] = (
    {"bill": 184.25, "roof": "about twelve years old", "roof_years": 12, "decider": True},
    {"bill": 96, "roof": "brand new, we did it last summer", "roof_years": 1, "decider": True},
    {"bill": 240.75, "roof": "oh, original, so thirty years", "roof_years": 30, "decider": False},
)
_TIMES: tuple[Slots, ...] = (
    {"time": "ten in the morning", "hhmm": "10:00", "other": "three", "other_hhmm": "15:00"},
    {"time": "noon", "hhmm": "12:00", "other": "five thirty", "other_hhmm": "17:30"},
)


def _analysis(interest: str, **more: object) -> dict[str, object]:
    return {
        "interest": interest,
        "monthly_bill_usd": "{bill}",
        "roof_age_years": "{roof_years}",
        "Decision maker?": "{decider}",
        "callback_time": "",
    } | more


_UNKNOWN = {"monthly_bill_usd": None, "roof_age_years": None, "Decision maker?": "N/A"}

LEAD = Script(
    name="solar lead",
    language="en-US",
    goal="the questions were answered",
    choices=(_HOMES, _TIMES),
    direction="outbound",
    opening=(
        agent(
            "Hi, is this {customer}? It's Sam, the virtual assistant at Brightroof Solar.",
            "Hello, this is Sam, an A I assistant with Brightroof Solar, for {customer}?",
        ),
        user("Yeah, this is {first}. What's this about?", "Speaking. Oh, the solar people, right?"),
        agent("You asked for a quote at our open house. Do you have two minutes for me?"),
    ),
    endings=(
        Ending(
            name="survey booked",
            steps=(
                user("Sure, go ahead.", "Two minutes, yeah. I'm just walking the dog."),
                agent("Great. Roughly what do you pay for electricity in a month?"),
                user("Around {bill} dollars. More in summer, with the air conditioning."),
                agent("Thank you. And how old is your roof?"),
                user("Uh, {roof}."),
                agent(
                    "Good to know. Is it you who decides about the house, or is there somebody "
                    "you'd want to ask along?"
                ),
                either(
                    (user("It's my house, I decide. Well, me and the bank."),),
                    (user("My wife would want to hear it too, she does the numbers."),),
                ),
                tool(
                    "find_incentives",
                    {"bill": "{bill}", "roof_years": "{roof_years}"},
                    {"program": "county rebate", "rebate_usd": 1200},
                ),
                agent(
                    "There is a county rebate of twelve hundred dollars this year, so a free "
                    "survey would be the next step. It takes forty minutes."
                ),
                tool(
                    "check_availability_cal",
                    {"date": "{date}"},
                    {"slots": ["{hhmm}", "{other_hhmm}"]},
                    type="check_availability_cal",
                ),
                agent("I have {weekday} at {time} or at {other}."),
                user("{time} works.", "Let's say {time}."),
                tool(
                    "book_appointment_cal",
                    {"date": "{date}", "time": "{hhmm}", "email": "{email}"},
                    {"success": True, "booking_id": "BR-{ref}"},
                    type="book_appointment_cal",
                ),
                *asides.ENGLISH,
                maybe(
                    0.4,
                    user("Can I ask you something? What happens when it snows?"),
                    agent(
                        "Panels are dark and steep, so most of it slides off by noon. Over a year "
                        "you lose about three percent."
                    ),
                    user("Huh. And if we sell the house?"),
                    agent(
                        "The panels stay on the roof and the warranty moves to the new owner. "
                        "Houses with panels tend to sell a little faster."
                    ),
                    user("My neighbor says it never pays off."),
                    agent(
                        "For some roofs that's true, and we tell people so. The survey is there "
                        "to find out before anybody spends a cent."
                    ),
                ),
                maybe(
                    0.5,
                    user("Is there any paperwork I should have ready?"),
                    agent("Just a recent bill. Our surveyor brings everything else."),
                ),
                agent("You're booked for {weekday} at {time}. I'll send it to {email}."),
                user("Sounds good. Thanks, Sam.", "Perfect. Talk to you then."),
                agent("Thank you, {first}. Have a sunny day!"),
            ),
            summary="{customer} pays about {bill} dollars a month and agreed to a free survey on "
            "{date} at {hhmm}.",
            analysis=_analysis("hot"),
            reason="agent_hangup",
        ),
        Ending(
            name="call later",
            steps=(
                user("Not a great moment, I'm at work. Can you call back after five?"),
                agent("Happy to. {weekday} after five, would that be good?"),
                user("Yeah, that's fine."),
                tool("update_lead", {"lead": "L-{ref}", "call_after": "17:00"}, {"success": True}),
                agent("It's in the book. Enjoy the rest of your day, {first}."),
                user("You too. Bye."),
            ),
            summary="{customer} was at work and asked to be called on {weekday} after five.",
            analysis=_analysis("warm", **{**_UNKNOWN, "callback_time": "{weekday}, 17:00"}),
            sentiment="Neutral",
        ),
        Ending(
            name="not interested",
            steps=(
                user("Honestly, I only came for the free coffee. I'm not interested."),
                agent("Fair enough, it was good coffee. Shall I take you off the list?"),
                user("Yes. And please don't call again."),
                tool("update_lead", {"lead": "L-{ref}", "do_not_call": True}, {"success": True}),
                agent("Done. Sorry to have bothered you. Goodbye."),
            ),
            summary="{customer} is not interested and asked not to be called again.",
            analysis=_analysis("none", **_UNKNOWN),
            reason="agent_hangup",
            successful=False,
            sentiment="Negative",
        ),
    ),
)

VOICEMAIL = Script(
    name="solar voicemail",
    language="en-US",
    goal="a message was left",
    choices=(),
    direction="outbound",
    opening=(
        user(
            "Hi, you've reached {customer}. I can't come to the phone right now. Please leave a "
            "message after the tone.",
            "The person you are calling is not available. At the tone, please record your message.",
        ),
    ),
    endings=(
        Ending(
            name="message left",
            steps=(
                agent(
                    "Hi {first}, this is Sam, the virtual assistant at Brightroof Solar. You "
                    "asked us for a quote. Call us back whenever you like at the number on "
                    "your screen. Have a sunny day!"
                ),
            ),
            summary="The call reached voicemail and the agent left a short message.",
            analysis=_analysis("unknown", **_UNKNOWN),
            reason="voicemail_reached",
            successful=False,
            sentiment="Unknown",
        ),
    ),
)
