"""Rohrwerk Lindner: visits for a quote. German, a conversation flow."""

from __future__ import annotations

from receiver.sandbox.script import (
    Ending,
    Node,
    Script,
    Slots,
    agent,
    extract,
    tool,
    user,
)
from receiver.sandbox.scripts import asides
from receiver.sandbox.scripts.plumber import STREETS, visit_analysis

_PLANS: tuple[Slots, ...] = (
    {"work": "ein neues Bad", "work_key": "Badsanierung", "time": "halb zehn", "hhmm": "09:30"},
    {"work": "eine Wärmepumpe", "work_key": "Wärmepumpe", "time": "vierzehn Uhr", "hhmm": "14:00"},
    {"work": "einen Wasserfilter", "work_key": "Wasserfilter", "time": "elf Uhr", "hhmm": "11:00"},
)


QUOTE = Script(
    name="plumber quote",
    language="de-DE",
    goal="a visit was arranged",
    choices=(_PLANS, STREETS),
    opening=(
        Node("Begrüßung"),
        agent("Rohrwerk Lindner, guten Tag. Worum geht es?"),
        user(
            "Guten Tag, {customer} mein Name. Wir überlegen, {work} einbauen zu lassen.",
            "Hallo, {last} hier. Ich hätte gern ein Angebot für {work}.",
        ),
        Node("Beratungstermin"),
        agent("Sehr gern. Dafür schauen wir uns das am besten vor Ort an. Das ist kostenlos."),
        user("Das klingt gut. Wann könnten Sie denn kommen?"),
        tool("check_availability_v2", {"datum": "{date}"}, {"frei": ["{hhmm}"]}),
        agent("Am {weekday} um {time} wäre Frau Seidel frei. Passt Ihnen das?"),
    ),
    endings=(
        Ending(
            name="visit booked",
            steps=(
                user("{weekday} um {time}, ja, das passt.", "Ja, da bin ich zu Hause."),
                agent("Schön. Und die Adresse, bitte?"),
                user("{street}. Das Haus mit den grünen Fensterläden."),
                extract(customer_name="{customer}", street="{street}", email="{email}"),
                tool(
                    "start_booking",
                    {"datetime": "{date} {hhmm}", "name": "{customer}"},
                    {"success": True, "termin": "T-{ref}"},
                ),
                *asides.GERMAN,
                agent("Notiert. Halten Sie bitte den Grundriss bereit, falls Sie einen haben."),
                user("Mache ich. Vielen Dank, tschüss!"),
            ),
            summary="{customer} is interested in {work_key}. A free visit was arranged for "
            "{weekday}, {date}, at {hhmm}.",
            analysis=visit_analysis("niedrig", False, **{"geschätzte Dauer (h)": 0.75}),
        ),
        Ending(
            name="will think",
            steps=(
                user("Hm, am {weekday} geht es leider nicht. Ich spreche erst mit meiner Frau."),
                agent("Natürlich, lassen Sie sich Zeit. Sie erreichen uns jederzeit."),
                user("Gut, dann melde ich mich wieder. Wiederhören."),
            ),
            summary="{customer} asked about {work_key} and will call again after talking it over.",
            analysis=visit_analysis(
                "niedrig", False, **{"Straße": "", "geschätzte Dauer (h)": None}
            ),
            successful=False,
            sentiment="Neutral",
        ),
    ),
)
