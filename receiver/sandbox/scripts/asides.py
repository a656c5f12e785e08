"""Small talk and small trouble, which happens in any call: what makes two bookings differ."""

from __future__ import annotations

from receiver.sandbox.script import Pause, agent, maybe, user

ENGLISH = (
    maybe(
        0.35,
        agent("Bear with me, the system is taking its time today."),
        Pause(20, 75),
        agent("Nearly there. I'm sorry about the wait."),
        user("That's all right, I've got my coffee.", "No worries."),
        Pause(5, 40),
        agent("There we are. Thank you for your patience."),
    ),
    maybe(
        0.2,
        user("Can I put you on hold? There's somebody at the door."),
        agent("Of course, I'm not going anywhere."),
        Pause(30, 110),
        user("Sorry about that. It was only a parcel. Where were we?"),
        agent("Right in the middle, but we're nearly done."),
    ),
    maybe(
        0.3,
        agent("Could you spell your last name for me, please?"),
        user("Sure. That's {spelled}."),
        agent("{spelled}. Thank you, now I have it right."),
    ),
    maybe(
        0.25,
        user("Hang on one second, let me find a pen."),
        Pause(8, 26),
        user("Okay, I'm back. Go ahead.", "Right, found one. Sorry, my desk is a disaster."),
        agent("No rush at all."),
    ),
    maybe(
        0.2,
        user("Sorry, can I ask, am I talking to a real person?"),
        agent("I'm a virtual assistant, but a person reads every note that I take."),
        user("Huh. Well, you're doing better than most."),
        agent("That's kind of you. Thank you!"),
    ),
    maybe(
        0.2,
        user("Sorry, the dog is going crazy. Biscuit! Down! Could you say that again?"),
        agent("Of course. And hello to Biscuit. I'll go a little slower."),
    ),
    maybe(
        0.3,
        agent("Let me read the number back to you: {phone}. Is that right?"),
        user("Yes, that's it.", "Correct. Well done."),
    ),
)

GERMAN = (
    maybe(
        0.35,
        agent("Der Rechner braucht heute etwas länger, einen Augenblick bitte."),
        Pause(20, 80),
        agent("So, jetzt ist es da. Danke für Ihre Geduld."),
        user("Kein Problem.", "Ach, das kenne ich von meinem auch."),
    ),
    maybe(
        0.35,
        agent("Würden Sie mir Ihren Nachnamen bitte buchstabieren?"),
        user("Gern. {spelled}."),
        agent("{spelled}, danke schön."),
    ),
    maybe(
        0.3,
        user("Moment, ich hole mir eben etwas zum Schreiben."),
        Pause(10, 28),
        user("So, jetzt aber. Bitte."),
    ),
    maybe(
        0.25,
        user("Spreche ich da eigentlich mit einem Menschen?"),
        agent("Ich bin die digitale Assistenz. Ihr Anliegen liest danach aber ein Mensch."),
        user("Ach was. Das merkt man ja kaum."),
    ),
    maybe(
        0.3,
        agent("Darf ich die Nummer wiederholen? {phone}. Stimmt das so?"),
        user("Ja, genau."),
    ),
)

FRENCH = (
    maybe(
        0.35,
        agent("Je vérifie auprès de l'atelier, je vous demande un petit instant."),
        Pause(25, 90),
        agent("Merci d'avoir patienté, c'est tout bon."),
        user("Pas de souci, j'étais en train d'arroser les plantes."),
    ),
    maybe(
        0.3,
        user("Dites, l'ampoule est fournie avec ?"),
        agent("Oui, une ampoule à filament, lumière chaude. Comptez quinze mille heures."),
        user("Quinze mille ? Elle va me survivre !"),
        agent("C'est tout le bien qu'on lui souhaite, et à vous aussi."),
    ),
    maybe(
        0.3,
        agent("Pouvez-vous m'épeler votre nom de famille, s'il vous plaît ?"),
        user("Bien sûr : {spelled}."),
        agent("Merci beaucoup."),
    ),
    maybe(
        0.3,
        user("Excusez-moi, on sonne à la porte. Vous patientez une seconde ?"),
        Pause(12, 34),
        user("Me revoilà. C'était la voisine, désolé."),
        agent("Il n'y a pas de mal."),
    ),
    maybe(
        0.25,
        user("Pardon, ça a coupé. Vous pouvez répéter ?"),
        agent("Bien sûr. Je parle un peu plus lentement."),
    ),
)

SPANISH = (
    maybe(
        0.35,
        agent("Lo consulto con recepción, no cuelgue, por favor."),
        Pause(25, 90),
        agent("Ya estoy con usted. Gracias por esperar."),
        user("Nada, tranquila.", "No pasa nada, estoy cocinando."),
    ),
    maybe(
        0.3,
        user("Perdone, espere un segundo, que busco un boli."),
        Pause(9, 27),
        user("Ya está, dígame."),
        agent("Sin prisa."),
    ),
    maybe(
        0.3,
        user("¿Y qué tiempo tienen por ahí?"),
        agent("Hoy, un sol espléndido y una brisa muy agradable."),
        user("¡Qué envidia! Aquí no para de llover."),
        agent("Pues aquí le esperamos con el sol puesto a enfriar."),
    ),
    maybe(
        0.25,
        user("Oiga, ¿estoy hablando con una máquina?"),
        agent("Soy una asistente virtual, sí, aunque mis notas las lee una persona."),
        user("Pues es usted muy simpática."),
    ),
)

JAPANESE = (
    maybe(
        0.35,
        agent("厨房に確認してまいります。そのまま少々お待ちください。"),
        Pause(20, 80),
        agent("お待たせいたしました。問題ございません。"),
        user("ありがとうございます。"),
    ),
    maybe(
        0.35,
        agent("お電話番号を復唱いたします。{phone}でお間違いないでしょうか？"),
        user("はい、合っています。"),
    ),
    maybe(
        0.3,
        user("すみません、少し待ってもらえますか？妻に確認します。"),
        Pause(10, 30),
        user("お待たせしました。大丈夫です。"),
        agent("ありがとうございます。"),
    ),
    maybe(
        0.3,
        user("ちなみに、季節のおすすめは何ですか？"),
        agent("ただいまは旬の鯛と、たけのこの炊き込みご飯が好評でございます。"),
        user("いいですね。楽しみです。"),
    ),
)
