"""Rohrwerk Lindner: a plumber's emergency line and its quotes. German, a conversation flow."""

from __future__ import annotations

from receiver.sandbox.script import (
    Ending,
    Node,
    Pause,
    Script,
    Slots,
    agent,
    either,
    extract,
    maybe,
    tool,
    user,
)
from receiver.sandbox.scripts import asides

_DAMAGE: tuple[Slots, ...] = (
    {
        "damage": "Bei uns läuft Wasser aus der Decke im Bad, und es wird immer mehr.",
        "problem": "Wasser aus der Decke",
        "urgency": "hoch",
        "hours": 2.5,
    },
    {
        "damage": "In der Küche ist ein Schlauch geplatzt, das Wasser steht bis in den Flur.",
        "problem": "Schlauch geplatzt",
        "urgency": "hoch",
        "hours": 1.5,
    },
    {
        "damage": "Unsere Waschmaschine läuft aus, und es tropft schon zum Nachbarn durch.",
        "problem": "Waschmaschine undicht",
        "urgency": "mittel",
        "hours": 1,
    },
)
STREETS: tuple[Slots, ...] = (
    {"street": "Lärchenweg 14", "floor": "dritter Stock", "minutes": 35},
    {"street": "Am Mühlgraben 3", "floor": "Erdgeschoss", "minutes": 50},
    {"street": "Jägerstraße 81", "floor": "zweiter Stock links", "minutes": 25},
)


def visit_analysis(urgency: str, sent: bool, **more: object) -> dict[str, object]:
    """Return the custom analysis of a call; `more` overrules the usual values."""
    return {
        "Dringlichkeit": urgency,
        "Monteur unterwegs": sent,
        "Straße": "{street}",
        "Rückruf gewünscht?": False,
        "geschätzte Dauer (h)": "{hours}",
    } | more


EMERGENCY = Script(
    name="plumber emergency",
    language="de-DE",
    goal="the address had been taken",
    choices=(_DAMAGE, STREETS),
    opening=(
        Node("Begrüßung"),
        agent(
            "Rohrwerk Lindner, Notdienst, guten Tag. Was ist passiert?",
            "Notdienst Rohrwerk Lindner, Sie sprechen mit Jonas. Wie kann ich helfen?",
        ),
        user("Guten Tag, {last} hier. {damage}", "Ja, hallo, {customer} mein Name. {damage}"),
        agent(
            "Oh je, das klingt wirklich unangenehm. Wir kümmern uns sofort.",
            "Das verstehe ich gut. Keine Sorge, wir bekommen das in den Griff.",
        ),
        maybe(
            0.6,
            agent(
                "Haben Sie den Haupthahn schon zugedreht? Meist sitzt er im Keller, "
                "gleich neben dem Zähler."
            ),
            either(
                (user("Ja, das hat mein Nachbar gerade gemacht."),),
                (
                    user("Nein, einen Moment bitte. Ich gehe schnell runter."),
                    Pause(18, 34),
                    user("So, ist zu. Es tropft nur noch ein bisschen."),
                    agent("Sehr gut gemacht."),
                ),
            ),
        ),
        Node("Adresse aufnehmen 📍"),
        agent("Wohin darf ich den Monteur schicken?"),
        user("{street}, {floor}. Klingeln Sie bitte bei {last}."),
        extract(customer_name="{customer}", street="{street}", floor="{floor}", email=""),
        Node("Monteur suchen 🔧"),
    ),
    endings=(
        Ending(
            name="dispatched",
            steps=(
                agent("Einen kleinen Moment, ich schaue, wer in Ihrer Nähe ist."),
                tool(
                    "Monteur finden ✓",
                    {"strasse": "{street}", "problem": "{problem}", "call_id": "1"},
                    {"success": True, "monteur": "Herr Özdemir", "minuten": "{minutes}"},
                    seconds=(1.2, 3.4),
                ),
                Node("Einsatz bestätigen"),
                agent(
                    "Herr Özdemir ist in ungefähr {minutes} Minuten bei Ihnen. Unter welcher "
                    "Nummer kann er Sie erreichen?"
                ),
                user("{phone}.", "Am besten unter {phone}."),
                tool(
                    "Einsatz anlegen",
                    {"name": "{customer}", "telefon": "{e164}"},
                    {"success": True, "einsatz": "E-{ref}"},
                ),
                *asides.GERMAN,
                maybe(
                    0.4,
                    user("Kann ich bis dahin selbst etwas tun?"),
                    agent(
                        "Stellen Sie Eimer und Handtücher bereit, und ziehen Sie bitte die "
                        "Stecker, wo es nass ist. Schaffen Sie das?"
                    ),
                    user("Ja, warten Sie, ich mache das gleich."),
                    Pause(20, 55),
                    user("So, erledigt. Der Fernseher steht jetzt im Schlafzimmer."),
                    agent("Perfekt. Mehr müssen Sie nicht machen."),
                ),
                agent("Vielen Dank. Die Anfahrt ist im Notdienst enthalten, und er ruft kurz an."),
                user(
                    "Super, da bin ich aber erleichtert. Danke schön!",
                    "Wunderbar, vielen Dank für die schnelle Hilfe.",
                ),
                agent("Gern geschehen. Alles Gute, und bis gleich!"),
            ),
            summary="{customer} reported an emergency ({problem}). The agent took the address, "
            "{street}, and sent a plumber who arrives within {minutes} minutes.",
            analysis=visit_analysis("{urgency}", True),
            reason="agent_hangup",
        ),
        Ending(
            name="dispatcher down",
            steps=(
                agent("Ich frage eben die Einsatzplanung ab."),
                tool(
                    "Monteur finden ✓",
                    {"strasse": "{street}", "problem": "{problem}"},
                    "Error: request timed out after 10000 ms",
                    successful=False,
                    seconds=(10.0, 10.2),
                ),
                agent(
                    "Entschuldigung, die Planung antwortet gerade nicht. Ich versuche es noch "
                    "einmal."
                ),
                tool(
                    "Monteur finden ✓",
                    {"strasse": "{street}", "problem": "{problem}"},
                    "Error: request failed with status 503",
                    successful=False,
                ),
                Node("Rückruf vereinbaren"),
                agent("Es tut mir leid. Herr Lindner ruft Sie in den nächsten zehn Minuten an."),
                user("Zehn Minuten? Na gut, aber bitte wirklich. Das Wasser wartet nicht."),
                agent("Versprochen. Unter welcher Nummer erreicht er Sie?"),
                user("{phone}."),
                agent("Danke. Er ist gleich für Sie da."),
            ),
            summary="{customer} reported an emergency ({problem}). The dispatch system did not "
            "answer twice, so the agent promised a call back within ten minutes.",
            analysis=visit_analysis("{urgency}", False, **{"Rückruf gewünscht?": True}),
            successful=False,
            sentiment="Negative",
        ),
    ),
)
