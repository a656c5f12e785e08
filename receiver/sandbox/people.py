"""Who is on the line: invented people, with numbers that regulators keep for fiction."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any


@dataclass(frozen=True)
class Country:
    """Names (first, last) and number patterns (E.164, as said aloud); each # is a digit."""

    full_name: str
    names: tuple[tuple[str, str], ...]
    numbers: tuple[tuple[str, str], ...]


# Reserved for fiction: 555-01xx in North America, 020 7946 0xxx and 07700 900xxx by Ofcom,
# 030 23125 and 0171 39200 by the Bundesnetzagentur, 01 99 00 and 06 39 98 by Arcep. Spain and
# Japan reserve none; there 555 and 0000 stand where no real number has them.
COUNTRIES = {
    "US": Country(
        "{first} {last}",
        (
            ("Zoë", "Marchetti"),
            ("Daniel", "Okafor"),
            ("Renée", "Baptiste"),
            ("Walt", "Dempsey"),
            ("Priya", "Raman"),
            ("Marisol", "Núñez"),
            ("Grace", "Lindqvist"),
            ("Theo", "Abernathy"),
            ("Hannah", "Yoder"),
            ("Curtis", "Bell"),
            ("Siobhán", "Kerrigan"),
            ("Leo", "Tran"),
        ),
        (
            ("+141555501##", "415-555-01##"),
            ("+120655501##", "206-555-01##"),
            ("+161755501##", "617-555-01##"),
            ("+130355501##", "303-555-01##"),
        ),
    ),
    "GB": Country(
        "{first} {last}",
        (
            ("Imogen", "Fairclough"),
            ("Rhys", "Llewellyn"),
            ("Anjali", "Mistry"),
            ("Callum", "Drummond"),
            ("Chloé", "Ashworth"),
            ("Femi", "Adeyemi"),
            ("Margaret", "Thistlewood"),
            ("Seán", "Gallagher"),
        ),
        (("+442079460###", "020 7946 0###"), ("+447700900###", "07700 900 ###")),
    ),
    "DE": Country(
        "{first} {last}",
        (
            ("Jürgen", "Köhler"),
            ("Annegret", "Weiß"),
            ("Björn", "Schäfer"),
            ("Käthe", "Möllers"),
            ("Tülay", "Yıldız"),
            ("Lukas", "Brandstätter"),
            ("Sabine", "Großmann"),
            ("Jörg", "Hübner"),
        ),
        (("+493023125###", "030 23125 ###"), ("+4917139200##", "0171 39200 ##")),
    ),
    "FR": Country(
        "{first} {last}",
        (
            ("Élodie", "Lefèvre"),
            ("François", "Château"),
            ("Maëlle", "Gauthier"),
            ("Benoît", "Rozières"),
            ("Anaïs", "Crépin"),
            ("Loïc", "Kerbrat"),
        ),
        (("+3319900####", "01 99 00 ## ##"), ("+3363998####", "06 39 98 ## ##")),
    ),
    "ES": Country(
        "{first} {last}",
        (
            ("Íñigo", "Peña"),
            ("Lucía", "Ordóñez"),
            ("Andrés", "Muñoz"),
            ("Begoña", "Ibáñez"),
            ("Sofía", "Gutiérrez"),
            ("Joaquín", "Araújo"),
            ("Nerea", "Etxeberría"),
        ),
        (("+34555010###", "555 010 ###"),),
    ),
    "JP": Country(
        "{last}{first}",
        (
            ("陽菜", "佐藤"),
            ("健太", "鈴木"),
            ("美咲", "渡辺"),
            ("大輔", "高橋"),
            ("由美子", "伊藤"),
            ("翔", "小林"),
            ("さくら", "中村"),
        ),
        (("+8130000####", "03-0000-####"), ("+81900000####", "090-0000-####")),
    ),
}

# Letters that do not come apart into a plain one and an accent.
_PLAIN = str.maketrans({"ı": "i", "ß": "ss"})
_WEEKDAYS = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday"),
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag"),
    "fr": ("lundi", "mardi", "mercredi", "jeudi", "vendredi"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes"),
    "ja": ("月曜日", "火曜日", "水曜日", "木曜日", "金曜日"),
}


def person(rng: Random, country: str) -> dict[str, Any]:
    """Return the slots of one caller: names, number, e-mail address and a reference number."""
    there = COUNTRIES[country]
    first, last = rng.choice(there.names)
    e164, aloud = rng.choice(there.numbers)
    digits = [str(rng.randrange(10)) for _ in range(e164.count("#"))]
    reference = str(rng.randrange(20_000, 90_000))
    mailbox = _ascii(f"{first}.{last}").strip(".") or f"guest{reference}"
    return {
        "first": first,
        "last": last,
        "customer": there.full_name.format(first=first, last=last),
        "e164": _dialled(e164, digits),
        "phone": _dialled(aloud, digits),
        "email": f"{mailbox}@example.com",
        "ref": reference,
        "spelled": ", ".join(last.upper()),
    }


def working_day(rng: Random, day_start_ms: int, language: str) -> dict[str, str]:
    """Return a Monday to Friday of the next nine days as `date` (ISO) and spoken `weekday`."""
    today = datetime.fromtimestamp(day_start_ms / 1000, UTC)
    coming = [today + timedelta(days=ahead) for ahead in range(2, 10)]
    chosen = rng.choice([date for date in coming if date.weekday() < 5])
    return {
        "date": chosen.date().isoformat(),
        "weekday": _WEEKDAYS[language[:2]][chosen.weekday()],
    }


def _ascii(name: str) -> str:
    apart = unicodedata.normalize("NFKD", name.lower().translate(_PLAIN))
    return apart.encode("ascii", "ignore").decode()


def _dialled(pattern: str, digits: list[str]) -> str:
    for digit in digits:
        pattern = pattern.replace("#", digit, 1)
    return pattern
