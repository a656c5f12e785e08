"""Hotel Marisma: guests with a question or a complaint, who may be put through. Spanish."""

from __future__ import annotations

from receiver.sandbox.script import Ending, Script, agent, either, tool, user
from receiver.sandbox.scripts import asides
from receiver.sandbox.scripts.hotel import ROOMS, STAYS, guest_analysis

QUESTION = Script(
    name="hotel question",
    language="es-ES",
    goal="the question was answered",
    choices=(ROOMS, STAYS),
    opening=(
        agent("Hotel Marisma, le atiende Alba. Dígame."),
        user(
            "Hola, tengo una reserva para el {weekday}, a nombre de {customer}.",
            "Buenas, soy {customer}. Llego el {weekday} y quería preguntar una cosa.",
        ),
        agent("Un momento, que la busco."),
        *asides.SPANISH,
        tool(
            "buscar_reserva",
            {"nombre": "{customer}"},
            {"encontrada": True, "localizador": "MAR-{ref}", "noches": "{nights}"},
        ),
        agent("Aquí la tengo, {first}: {room}, {stay}. ¿Qué quería saber?"),
    ),
    endings=(
        Ending(
            name="answered",
            steps=(
                either(
                    (
                        user("¿Tienen aparcamiento? Vamos con un coche bastante grande."),
                        agent(
                            "Sí, subterráneo, a 15 euros el día. Cabe una furgoneta sin problema."
                        ),
                    ),
                    (
                        user("¿Se puede llevar perro? Es pequeño y muy formal."),
                        agent("Encantados. Le ponemos su manta y su cuenco en la habitación."),
                    ),
                ),
                user("Genial. ¿Y la playa queda muy lejos?"),
                agent("A seis minutos andando, bajando por la calle de la Ermita."),
                user("Pues nada más. ¡Muchas gracias!", "Fenomenal, gracias. Hasta luego."),
                agent("A usted, {first}. ¡Nos vemos el {weekday}!"),
            ),
            summary="{customer}, who arrives on {date}, asked about parking or pets and the way "
            "to the beach. Everything was answered.",
            analysis=guest_analysis("consulta", **{"¿Cliente habitual?": True}),
        ),
        Ending(
            name="put through",
            steps=(
                user("Es que me han cobrado dos veces la señal y quería hablar con alguien."),
                agent("Vaya, lo siento. Le paso con administración, no se retire."),
                tool(
                    "pasar_a_recepcion",
                    {"motivo": "cobro duplicado"},
                    "Transferring call",
                    type="transfer_call",
                    seconds=(5.0, 9.0),
                ),
            ),
            summary="{customer} was charged twice for the deposit and was transferred to the "
            "accounts desk.",
            analysis=guest_analysis("reclamación", **{"¿Cliente habitual?": True}),
            reason="call_transfer",
            sentiment="Negative",
        ),
    ),
)
