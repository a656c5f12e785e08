"""Maison Lanterne: a lamp shop's orders followed and returned. French, and English on the web."""

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

_ORDERS: tuple[Slots, ...] = (
    {"article": "le lampadaire Séraphine", "item": "the Séraphine floor lamp", "total": 229.95},
    {"article": "la suspension en rotin", "item": "the rattan pendant", "total": 118},
    {
        "article": "les deux appliques en laiton",
        "item": "the two brass wall lights",
        "total": 164.25,
    },
)


def _analysis(status: str, **more: object) -> dict[str, object]:
    return {
        "numéro de commande": "ML-{ref}",
        "statut": status,
        "montant (€)": "{total}",
        "problème résolu": True,
        "note de satisfaction": None,
    } | more


ORDER = Script(
    name="order status",
    language="fr-FR",
    goal="the order was found",
    choices=(_ORDERS,),
    opening=(
        agent(
            "Maison Lanterne, bonjour ! Je suis Camille, que puis-je faire pour vous ?",
            "Bonjour et bienvenue chez Maison Lanterne, ici Camille. Je vous écoute.",
        ),
        user(
            "Bonjour Camille. J'ai commandé {article} et je n'ai toujours rien reçu.",
            "Oui, bonjour, je voudrais savoir où en est ma commande. C'est {article}.",
        ),
        agent("Je regarde ça tout de suite. Vous avez le numéro de commande sous les yeux ?"),
        either(
            (user("Oui, c'est le ML, {ref}."),),
            (
                user("Euh, attendez… non, je ne le trouve pas."),
                agent("Aucun souci, votre adresse e-mail suffit."),
                user("C'est {email}."),
            ),
        ),
        tool(
            "suivre_commande",
            {"commande": "ML-{ref}", "email": "{email}"},
            {"trouvée": True, "article": "{article}", "total": "{total}", "livraison": "{date}"},
            seconds=(0.5, 1.8),
        ),
    ),
    endings=(
        Ending(
            name="on its way",
            steps=(
                agent(
                    "Bonne nouvelle, {first} : {article} est déjà chez le transporteur. "
                    "La livraison est prévue {weekday}."
                ),
                user(
                    "Ah, parfait ! {weekday} je suis à la maison.",
                    "D'accord. Et le livreur passe à quelle heure ?",
                ),
                agent("Entre neuf heures et midi, et vous recevrez un SMS une heure avant."),
                maybe(
                    0.5,
                    user("Et si je ne suis pas là, il peut le laisser chez la gardienne ?"),
                    tool(
                        "ajouter_consigne",
                        {"commande": "ML-{ref}", "consigne": "gardienne"},
                        {"success": True},
                    ),
                    agent("C'est noté : chez la gardienne en cas d'absence."),
                ),
                *asides.FRENCH,
                user(
                    "Super, merci beaucoup. Bonne journée !",
                    "Très bien, merci pour votre aide, Camille.",
                ),
                agent("Avec plaisir, {first}. Très belle journée à vous !"),
            ),
            summary="{customer} asked about order ML-{ref}. It is with the carrier and will be "
            "delivered on {date}.",
            analysis=_analysis("expédiée", **{"note de satisfaction": 5}),
            reason="agent_hangup",
        ),
        Ending(
            name="delayed",
            steps=(
                agent("Je vois un retard chez notre atelier. Le départ est repoussé à {weekday}."),
                user("Encore ? On m'avait promis la semaine dernière, c'est vraiment pénible !"),
                agent(
                    "Je comprends, et je vous présente nos excuses. Je vous rembourse la livraison."
                ),
                tool(
                    "rembourser_livraison",
                    {"commande": "ML-{ref}"},
                    {"success": False, "error": "montant_nul"},
                ),
                agent("Ah, la livraison était déjà offerte. Je transmets à ma responsable."),
                user("Bon. J'attends de vos nouvelles, alors. Au revoir."),
            ),
            summary="Order ML-{ref} is late again. The customer was annoyed; a refund of the "
            "delivery was not possible and the case goes to a supervisor.",
            analysis=_analysis("retardée", **{"problème résolu": False, "note de satisfaction": 2}),
            successful=False,
            sentiment="Negative",
        ),
    ),
)

RETURN = Script(
    name="order return",
    language="en-GB",
    goal="the return was arranged",
    choices=(_ORDERS,),
    opening=(
        agent(
            "Hello from Maison Lanterne! I'm Camille. Are you calling about an order?",
            "Hi, Camille here at Maison Lanterne. How may I help?",
        ),
        user(
            "Hi! Yes, I got {item} yesterday and it's lovely, but it's too big for the room.",
            "Hello, I'd like to send back {item}. The colour isn't quite what I expected.",
        ),
        agent("That happens to the best of us. Could I have your order number?"),
        user("It's ML {ref}.", "Sure, M L, then {ref}."),
        tool(
            "suivre_commande",
            {"commande": "ML-{ref}"},
            {"trouvée": True, "total": "{total}", "retour_possible": True},
        ),
        agent("Thank you, {first}. You're well within thirty days. Refund or exchange?"),
    ),
    endings=(
        Ending(
            name="label sent",
            steps=(
                user("A refund, please.", "I think I'd rather have the money back."),
                agent("No problem. Where should I send the label?"),
                user("To {email}, please."),
                tool(
                    "créer_retour",
                    {"commande": "ML-{ref}", "email": "{email}"},
                    {"success": True, "étiquette": "R-{ref}"},
                ),
                *asides.ENGLISH,
                agent(
                    "It's in your inbox. Drop the parcel at any post office; the {total} euros "
                    "are back on your card within five days."
                ),
                user("Brilliant, that's much easier than I feared. Thank you!"),
                agent("Glad to hear it. Goodbye, {first}!"),
            ),
            summary="{customer} returns {item} (order ML-{ref}). A label was sent by e-mail.",
            analysis=_analysis("retour", **{"note de satisfaction": 4.5}),
        ),
        Ending(
            name="gave up waiting",
            steps=(
                user("Exchange it for the smaller one, if you have it."),
                agent("Let me check the stock in our workshop, this takes a moment."),
                tool("vérifier_stock", {"article": "{article}", "taille": "S"}, None),
                user("Sorry, my train is going into a tunnel. I'll try again la—"),
            ),
            summary="{customer} wanted to exchange {item}; the line broke off while the stock was "
            "being checked.",
            analysis=_analysis(
                "retour", **{"problème résolu": False, "note de satisfaction": "N/A"}
            ),
            successful=False,
            sentiment="Neutral",
        ),
    ),
)
