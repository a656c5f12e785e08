"""Harbour Lane Dental: appointments made, moved and confirmed. American English."""

from __future__ import annotations

from receiver.sandbox.script import (
    Ending,
    Mark,
    Pause,
    Script,
    Slots,
    agent,
    either,
    maybe,
    one_of,
    tool,
    user,
)
from receiver.sandbox.scripts import asides

SERVICES: tuple[Slots, ...] = (
    {"service": "a cleaning", "service_key": "cleaning", "minutes": 45},
    {"service": "a check-up", "service_key": "check-up", "minutes": 30},
    {"service": "a filling", "service_key": "restorative", "minutes": 60},
    {"service": "a whitening session", "service_key": "cosmetic", "minutes": 50},
)
TIMES: tuple[Slots, ...] = (
    {"time": "nine thirty", "hhmm": "09:30", "other": "eleven fifteen", "other_hhmm": "11:15"},
    {"time": "eight o'clock", "hhmm": "08:00", "other": "ten forty", "other_hhmm": "10:40"},
    {"time": "one fifteen", "hhmm": "13:15", "other": "four thirty", "other_hhmm": "16:30"},
)
_BOOK = {"date": "{date}", "time": "{hhmm}", "name": "{customer}", "phone": "{e164}"}


def booking_analysis(booked: bool, **more: object) -> dict[str, object]:
    """Return the custom analysis of a call; `more` overrules the usual values."""
    return {
        "Patient name": "{customer}",
        "Appointment booked?": booked,
        "service": "{service_key}",
        "appointment_minutes": "{minutes}" if booked else None,
        "insurance_carrier": "N/A",
    } | more


BOOKING = Script(
    name="dental booking",
    language="en-US",
    goal="an appointment was found",
    choices=(SERVICES, TIMES, one_of("carrier", "Blue Heron Dental", "Evergreen Mutual")),
    opening=(
        agent(
            "Harbour Lane Dental, this is Nora. How can I help you today?",
            "Thanks for calling Harbour Lane Dental, Nora speaking. What can I do for you?",
        ),
        user(
            "Hi Nora, this is {customer}. I'd like to book {service}, please.",
            "Hello! My name is {customer}, and I need {service}, this coming week if that works.",
            "Hey, um, I was hoping to get in for {service}? It's {customer}.",
        ),
        agent("Of course, {first}. Have you been to see us before?"),
        either(
            (
                user("Yes, last autumn. I think it was with Doctor Whitfield."),
                tool("find_patient", {"name": "{customer}"}, {"found": True, "id": "P-{ref}"}),
                agent("Lovely, I have you right here. Let me see what is open."),
            ),
            (
                user(
                    "No, this would be my first visit. A friend from work recommended you.",
                    "Not yet. I just moved here in the spring.",
                ),
                agent("Then welcome! I'll add ten minutes so there is time for the paperwork."),
            ),
        ),
        tool(
            "check_availability_cal",
            {"from": "{date}", "minutes": "{minutes}"},
            {"slots": ["{date}T{hhmm}", "{date}T{other_hhmm}"]},
            type="check_availability_cal",
        ),
        agent(
            "I have {weekday} at {time}, or a little later at {other}. Which suits you better?",
            "On {weekday} there is {time} and there is {other}. Would either of those work?",
        ),
    ),
    endings=(
        Ending(
            name="booked",
            steps=(
                user("{time} is perfect.", "The first one, please. I can be at work by noon then."),
                agent("Wonderful. And what is the best number to reach you on?"),
                user("It's {phone}.", "Sure. That's {phone}."),
                tool(
                    "book_appointment_cal",
                    _BOOK,
                    {"success": True, "booking_id": "HL-{ref}"},
                    type="book_appointment_cal",
                ),
                *asides.ENGLISH,
                agent("You're all set: {service} on {weekday} at {time}, with Doctor Whitfield."),
                maybe(
                    0.5,
                    user("Great. Do you take {carrier}?"),
                    agent("We do. Just bring your card, and we'll file the claim for you."),
                ),
                maybe(
                    0.4,
                    user("And is there anywhere to park?"),
                    agent(
                        "Yes, behind the building, free for two hours. Come in by the blue door."
                    ),
                ),
                maybe(
                    0.35,
                    user("Oh, and my daughter is due as well. Could we come in together?"),
                    tool("find_patient", {"family_of": "P-{ref}"}, {"found": True, "age": 9}),
                    agent("Of course. I can seat her next door at the same time. How old is she?"),
                    user("She's nine, and a little nervous about the drill, to be honest."),
                    agent("Then I'll ask for Doctor Amari. She lets children steer the chair."),
                    user("Oh, she will love that."),
                ),
                Mark("sms", "Harbour Lane Dental: see you {weekday} at {hhmm}. Reply C to cancel."),
                agent("I've just texted you the details. Anything else I can do?"),
                user("No, that's everything. Thank you so much!", "That was easy. Thanks, Nora."),
                agent("You're very welcome, {first}. See you on {weekday}!"),
            ),
            summary="{customer} called to book {service}. The agent offered two times, booked "
            "{weekday} at {hhmm} and sent a confirmation by text message.",
            analysis=booking_analysis(True, insurance_carrier="{carrier}"),
            reason="agent_hangup",
        ),
        Ending(
            name="just taken",
            steps=(
                user("Let's do {time}."),
                tool(
                    "book_appointment_cal",
                    _BOOK,
                    {"success": False, "error": "slot_taken", "next": "{other_hhmm}"},
                    type="book_appointment_cal",
                ),
                agent("Oh, I'm sorry, somebody took that slot this very second. {other} is free."),
                user("Ha, okay. {other} is fine too, I'm not fussy."),
                tool(
                    "book_appointment_cal",
                    {**_BOOK, "time": "{other_hhmm}"},
                    {"success": True, "booking_id": "HL-{ref}"},
                    type="book_appointment_cal",
                ),
                agent("Thank you for being so kind about it. {weekday} at {other} is yours."),
                user("Perfect, see you then. Bye!"),
            ),
            summary="{customer} asked for {service}. The first slot was taken while they spoke; "
            "the agent booked {weekday} at {other_hhmm} instead.",
            analysis=booking_analysis(True),
            sentiment="Neutral",
        ),
        Ending(
            name="nothing fits",
            steps=(
                user("Hmm, no, I'm travelling on {weekday}. Do you have anything on a weekend?"),
                agent("I'm afraid we are closed at weekends. I could put you on the waiting list."),
                user("That doesn't really help me. I'll try somewhere else, thanks."),
                agent("I understand, {first}. I'm sorry we couldn't make it work. Take care."),
            ),
            summary="{customer} wanted {service} on a weekend. The practice is closed then and no "
            "appointment was made; the caller will look elsewhere.",
            analysis=booking_analysis(False, insurance_carrier=""),
            successful=False,
            sentiment="Negative",
        ),
        Ending(
            name="went silent",
            steps=(
                user("Hold on, let me look at my calendar."),
                Pause(14, 19),
                agent("Take your time, {first}. Are you still there?"),
                Pause(14, 19),
                agent("I can't hear you any more, so I'll hang up now. Call us back any time!"),
                Pause(6, 9),
            ),
            summary="{customer} asked for {service} and went to fetch a calendar. Nobody came back "
            "to the phone and the agent ended the call.",
            analysis=booking_analysis(False),
            reason="inactivity",
            successful=False,
            sentiment="Neutral",
        ),
    ),
)
