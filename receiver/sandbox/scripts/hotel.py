"""Hotel Marisma: rooms reserved. Spanish."""

from __future__ import annotations

from receiver.sandbox.script import (
    Ending,
    Mark,
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

ROOMS: tuple[Slots, ...] = (
    {"room": "una doble con vistas al mar", "room_key": "doble_mar", "price": 148.25},
    {"room": "una individual tranquila", "room_key": "individual", "price": 86},
    {"room": "una habitación familiar", "room_key": "familiar", "price": 192.75},
)
STAYS: tuple[Slots, ...] = (
    {"stay": "dos noches", "nights": 2},
    {"stay": "tres noches", "nights": 3},
    {"stay": "una semana", "nights": 7},
)
_WISHES = one_of(
    "wish",
    "una cuna para el niño",
    "una planta alta, lejos del ascensor",
    "una cena sin gluten la primera noche",
)


def guest_analysis(intent: str, **more: object) -> dict[str, object]:
    """Return the custom analysis of a call; `more` overrules the usual values."""
    return {
        "motivo": intent,
        "número de noches": None,
        "precio por noche": None,
        "petición especial": "",
        "¿Cliente habitual?": False,
    } | more


RESERVATION = Script(
    name="hotel reservation",
    language="es-ES",
    goal="a room was chosen",
    choices=(ROOMS, STAYS, _WISHES),
    opening=(
        agent(
            "Hotel Marisma, dígame. Le atiende Alba, ¿en qué puedo ayudarle?",
            "Gracias por llamar al Hotel Marisma, soy Alba. ¿Qué necesita?",
        ),
        user(
            "Hola, buenas. Soy {customer}. Quería reservar {room} para {stay}.",
            "Hola, Alba. Mire, necesito {room}, serían {stay}, a nombre de {customer}.",
        ),
        agent("¡Qué bien, {first}! ¿Para qué día sería la llegada?"),
        user("El {weekday} que viene, si puede ser.", "Llegaríamos el {weekday} por la tarde."),
        agent("Déjeme mirar la disponibilidad, es solo un segundo."),
        tool(
            "consultar_disponibilidad",
            {"llegada": "{date}", "noches": "{nights}", "tipo": "{room_key}"},
            {"libre": True, "precio_noche": "{price}", "moneda": "EUR"},
        ),
        agent("Sí, tenemos {room} el {weekday}. Son {price} euros la noche, desayuno incluido."),
    ),
    endings=(
        Ending(
            name="reserved",
            steps=(
                user("Estupendo, la cojo.", "Perfecto, resérvemela, por favor."),
                *asides.SPANISH,
                maybe(
                    0.6,
                    user("Y una cosa: ¿sería posible {wish}?"),
                    agent("Por supuesto, lo dejo anotado en la reserva."),
                ),
                Mark("injected", "Hoy el aparcamiento es gratuito para reservas nuevas."),
                agent("Por cierto, me acaban de decir que el aparcamiento le sale gratis."),
                user("¡Anda, qué bien! Pues iremos en coche."),
                agent("¿Me da un teléfono y un correo para la confirmación?"),
                user(
                    "Claro: {phone}, y el correo es {email}.",
                    "Sí, apunte: {phone}. El correo, {email}.",
                ),
                tool(
                    "crear_reserva",
                    {
                        "nombre": "{customer}",
                        "correo": "{email}",
                        "telefono": "{e164}",
                        "noches": "{nights}",
                    },
                    {"success": True, "localizador": "MAR-{ref}"},
                    seconds=(0.9, 2.8),
                ),
                agent("Listo, {first}. Su localizador es MAR-{ref}. Le acaba de llegar el correo."),
                either(
                    (user("Muchísimas gracias, Alba. ¡Hasta el {weekday}!"),),
                    (
                        user("Ah, ¿y hasta qué hora se puede llegar?"),
                        agent("Hay recepción toda la noche, así que sin prisa."),
                        user("Ideal. ¿Y hay algún sitio bueno para cenar cerca?"),
                        agent(
                            "A la vuelta está Casa Tomasa. Pida el arroz con almejas y diga que "
                            "va de parte de Alba."
                        ),
                        user("Anotado queda. Muchas gracias, adiós."),
                    ),
                ),
                agent("A usted. ¡Que tenga un buen viaje!"),
            ),
            summary="{customer} reserved {room_key} for {nights} nights from {date} at {price} "
            "euros a night; confirmation MAR-{ref} was sent by e-mail.",
            analysis=guest_analysis(
                "reserva",
                **{
                    "número de noches": "{nights}",
                    "precio por noche": "{price}",
                    "petición especial": "{wish}",
                },
            ),
            reason="agent_hangup",
        ),
        Ending(
            name="too dear",
            steps=(
                user("Uf, {price} euros… Se me va un poco de presupuesto, la verdad."),
                agent("Lo entiendo. Entre semana suele bajar. ¿Quiere que mire otras fechas?"),
                user("No, déjelo, lo hablo en casa y vuelvo a llamar. Gracias."),
                agent("Cuando quiera, {first}. Un saludo."),
            ),
            summary="{customer} asked for {room_key}; the price was above the budget and no "
            "reservation was made.",
            analysis=guest_analysis(
                "reserva", **{"precio por noche": "{price}", "petición especial": "N/A"}
            ),
            successful=False,
            sentiment="Neutral",
        ),
    ),
)
