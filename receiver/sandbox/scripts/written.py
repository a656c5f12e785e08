"""Conversations in writing: chats on a web page and by text message."""

from __future__ import annotations

from receiver.sandbox.script import Ending, Node, Script, Slots, agent, maybe, tool, user

_COLOURS: tuple[Slots, ...] = (
    {"colour": "ivoire", "stock": 4},
    {"colour": "vert sauge", "stock": 1},
)
_TIMES: tuple[Slots, ...] = (
    {"time": "9:30", "hhmm": "09:30"},
    {"time": "2:15", "hhmm": "14:15"},
)

LAMP = Script(
    name="lamp in stock",
    language="fr-FR",
    goal="the stock was checked",
    choices=(_COLOURS,),
    opening=(
        agent("Bonjour et bienvenue chez Maison Lanterne ! Que cherchez-vous ?"),
        user(
            "Bonjour, la lampe Séraphine existe-t-elle en {colour} ?",
            "bonjour ! la séraphine en {colour}, c'est encore possible ?",
        ),
        tool(
            "vérifier_stock",
            {"article": "séraphine", "couleur": "{colour}"},
            {"success": True, "stock": "{stock}"},
        ),
    ),
    endings=(
        Ending(
            name="in stock",
            steps=(
                agent("Oui, en {colour} nous en avons encore {stock} à l'atelier."),
                user("Parfait, je la commande ce soir. Merci 🙂"),
                agent("Merci à vous, et bonne soirée !"),
            ),
            summary="The customer asked for the Séraphine lamp in {colour}; {stock} are in stock.",
            analysis={"couleur": "{colour}", "intention d'achat": True, "quantité": 1},
        ),
        Ending(
            name="wants a discount",
            steps=(
                agent("Oui, il en reste {stock}. Souhaitez-vous la réserver ?"),
                user("Et avec une petite remise ?"),
                agent("Je ne peux pas en accorder moi-même, mais je vous inscris pour les soldes."),
                user("bof, tant pis"),
            ),
            summary="The customer wanted a discount on the Séraphine lamp and left without it.",
            analysis={"couleur": "{colour}", "intention d'achat": False, "quantité": None},
            successful=False,
            sentiment="Neutral",
        ),
    ),
)

TEXT_BACK = Script(
    name="dental by text",
    language="en-US",
    goal="a new time was found",
    choices=(_TIMES,),
    opening=(
        user("hi its {customer}, running late for everything this week. can i move my cleaning?"),
        agent("Hi {first}! Of course. Does {weekday} at {time} suit you?"),
        user("yes!! thats great", "{weekday} works, thank you"),
        tool(
            "move_appointment",
            {"phone": "{e164}", "date": "{date}", "time": "{hhmm}"},
            {"success": True},
        ),
    ),
    endings=(
        Ending(
            name="moved",
            steps=(
                agent("All done: {weekday} at {time}. Reply C if you need to cancel."),
                maybe(
                    0.5,
                    user("👍"),
                ),
            ),
            summary="{customer} moved a cleaning to {date} at {hhmm} by text message.",
            analysis={"Patient name": "{customer}", "Appointment booked?": True},
        ),
    ),
)

LATE_ARRIVAL = Script(
    name="late arrival",
    language="es-ES",
    goal="the arrival was noted",
    choices=(),
    opening=(
        Node("saludo"),
        agent("¡Hola! Soy Alba, del Hotel Marisma. ¿En qué puedo ayudarle?"),
        user(
            "Hola, soy {customer}. Llegamos el {weekday} sobre la una de la madrugada, ¿hay "
            "alguien?"
        ),
        Node("llegada tardía"),
    ),
    endings=(
        Ending(
            name="noted",
            steps=(
                agent("Sí, la recepción está abierta toda la noche. Lo dejo anotado, {first}."),
                user("¡Mil gracias! ¿Y podremos cenar algo?"),
                agent("Les dejamos un plato frío en la habitación. ¡Buen viaje!"),
            ),
            summary="{customer} announced an arrival at one in the morning of {date}.",
            analysis={"hora de llegada": 1, "petición especial": "plato frío"},
        ),
    ),
)
