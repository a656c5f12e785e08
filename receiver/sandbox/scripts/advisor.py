"""A call that goes on to a person, for agents whose own scripts have none. American English."""

from __future__ import annotations

from receiver.sandbox.script import Ending, Pause, Script, agent, target, tool, user

ADVISOR = Script(
    name="advisor",
    language="en-US",
    goal="an advisor was reached",
    choices=(),
    direction="outbound",
    opening=(
        agent("Hello, is this {customer}? You asked us to call you back."),
        user("Yes, that's me.", "Speaking. Good that you call."),
        agent("What can I do for you?"),
        user("It's about my contract, {ref}. I'd rather talk to a person, to be honest."),
    ),
    endings=(
        Ending(
            name="put through",
            steps=(
                tool("find_contract", {"number": "{ref}"}, {"found": True, "holder": "{customer}"}),
                agent("Of course. One moment, I'll get an advisor on the line."),
                tool(
                    "transfer_call",
                    {"team": "advisors"},
                    "Transfer successful",
                    Pause(4, 9),
                    target("Advisors, this is Ines."),
                    agent("Hi Ines, I have {customer} for you, contract {ref}."),
                    target("Thanks, put them through."),
                    type="transfer_call",
                    seconds=(10, 18),
                ),
            ),
            summary="{customer} asked for a person about contract {ref} and was put through.",
            analysis={"contract": "{ref}", "put_through": True},
            reason="call_transfer",
        ),
    ),
)
ADVISOR_NUMBER = "+12065550188"
