"""Kestrel & Vale: claims that go on to a person, or would if one were free. British English."""

from __future__ import annotations

from receiver.sandbox.script import Ending, Pause, agent, target, tool, user
from receiver.sandbox.scripts.accidents import claim_analysis

_QUEUE_NOTE = agent(
    "You are still in the queue, {first}. Somebody will be with you as soon as possible.",
    "Thank you for holding. Your place in the queue is safe.",
    "I'm sorry for the wait, {first}. It is a busy day on the roads.",
)

HANDOVERS = (
    Ending(
        name="handed over",
        steps=(
            agent("Thank you. Because of the amount a colleague has to look at this with you."),
            user("Of course. Can you put me through?"),
            tool(
                "transfer_call",
                {"team": "large claims"},
                "Transfer successful",
                Pause(6, 12),
                target("Large claims, Desmond speaking."),
                agent(
                    "Hello Desmond, it's Edith. I have {customer} on the line, policy K V "
                    "{ref}, with roughly {roughly} pounds of damage."
                ),
                target("Lovely, put them through. I have the file open."),
                type="transfer_call",
                seconds=(14, 24),
            ),
        ),
        summary="{customer} reported an accident with the car: {cause}. The agent briefed a "
        "colleague in large claims and handed the call over.",
        analysis=claim_analysis(True, next_step="large claims"),
        reason="call_transfer",
    ),
    Ending(
        name="nobody free",
        steps=(
            agent("A colleague should look at this with you. I'll try to reach one."),
            tool(
                "transfer_call",
                {"team": "large claims"},
                "Transfer cancelled: no answer",
                Pause(22, 28),
                type="transfer_call",
                successful=False,
                seconds=(24, 30),
            ),
            agent("I'm sorry, {first}, they are all on the phone. May they ring you back?"),
            user("Yes, on {phone}, please. Before six would be good."),
            tool("create_callback", {"phone": "{e164}", "before": "18:00"}, {"success": True}),
            agent("It's at the top of their list. Thank you for your patience."),
            user("Thank you. Bye-bye."),
        ),
        summary="{customer} reported an accident with the car: {cause}. No specialist was free, so "
        "a call back before 18:00 was arranged.",
        analysis=claim_analysis(True, next_step="call back"),
        sentiment="Neutral",
    ),
    Ending(
        name="endless queue",
        steps=(
            agent("I'd like a colleague to look at this. There is a queue, is that all right?"),
            user("I suppose so. How long will it be?"),
            agent("A few minutes. I'll stay on the line with you."),
            *(step for _ in range(5) for step in (Pause(38, 52), _QUEUE_NOTE)),
            user("This is getting silly. I've been holding for ages."),
            *(step for _ in range(9) for step in (Pause(38, 52), _QUEUE_NOTE)),
        ),
        summary="{customer} had an accident and waited for a specialist until the longest "
        " time allowed for a call was reached.",
        analysis=claim_analysis(False, next_step=None),
        reason="max_duration_reached",
        successful=False,
        sentiment="Negative",
    ),
)
