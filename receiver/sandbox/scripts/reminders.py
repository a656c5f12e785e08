"""Harbour Lane Dental: visits confirmed by pressing a key. American English, outbound."""

from __future__ import annotations

from receiver.sandbox.script import Ending, Mark, Script, agent, tool, user
from receiver.sandbox.scripts.dental import SERVICES, TIMES, booking_analysis

REMINDER = Script(
    name="dental reminder",
    language="en-US",
    goal="the appointment was confirmed",
    choices=(SERVICES, TIMES),
    direction="outbound",
    opening=(
        agent("Hello, this is Nora from Harbour Lane Dental. May I speak with {customer}?"),
        user("Speaking.", "Yes, that's me. Hi.", "This is {first}, go ahead."),
        agent(
            "I'm calling about {service} on {weekday} at {time}. Press one to keep it, please, "
            "or two if you need another day."
        ),
    ),
    endings=(
        Ending(
            name="kept",
            steps=(
                Mark("dtmf", "1"),
                tool("confirm_appointment", {"booking": "HL-{ref}"}, {"confirmed": True}),
                agent("Thank you, that's confirmed. Could you come five minutes early?"),
                user("No problem, will do.", "Sure. Thanks for the reminder."),
                agent("See you on {weekday}, {first}. Have a lovely day!"),
            ),
            summary="Reminder call for {service}. {customer} pressed 1 and confirmed the visit.",
            analysis=booking_analysis(True),
            reason="agent_hangup",
        ),
        Ending(
            name="moved",
            steps=(
                Mark("dtmf", "2"),
                agent("No problem at all. I could offer the same day at {other}."),
                user("Oh, that's even better. I get off work at noon on {weekday}s."),
                tool(
                    "move_appointment",
                    {"booking": "HL-{ref}", "time": "{other_hhmm}"},
                    {"success": True},
                ),
                agent("Done, I moved it to {other}. See you then, {first}!"),
                user("Great, bye now."),
            ),
            summary="Reminder call for {service}. {customer} pressed 2; the visit was moved to "
            "{other_hhmm} on the same day.",
            analysis=booking_analysis(True),
        ),
        Ending(
            name="wrong number",
            steps=(
                user("Sorry, wait. I think you want the {last} upstairs. This happens a lot."),
                agent("I do apologise. I'll take this number off our list. Have a good day."),
                user("Thanks. Bye."),
            ),
            summary="The number on file belongs to somebody else; the agent will remove it.",
            analysis=booking_analysis(False, insurance_carrier=None),
            successful=False,
            sentiment="Neutral",
        ),
    ),
)
