"""What Retell bills for, by family.

Names of products are an open list: the name of a new model or voice contains its family. The names
are from bills and price lists of 2024 to 2026. The patterns are those of SQL's LIKE, so that Python
and the views share one list.
"""

import re
from collections.abc import Iterable

OTHER = "other"

# Family -> the names in it, `%` standing for any text. The first match counts: `model` is last,
# because other products have a model in their name.
_PATTERNS = {
    "surcharge": ("%_surcharge",),
    "analysis": ("post_call_analysis%", "%_text_testing"),
    "voice engine": ("voice_engine", "retell_voice_engine"),
    "voice": ("%_tts", "%_tts_%"),
    "telephony": ("%_telephony", "%twilio%", "%telnyx%"),
    "add-on": (
        "background_voice_cancellation",
        "knowledge_base%",
        "guardrail%",
        "pii_scrubbing",
        "colloquial_mode",
        "stable_server",
        "quality_assurance",
    ),
    "per item": ("branded_outbound_call", "batch_call", "sms_message"),
    "model": ("gpt_%", "claude_%", "gemini_%", "llm_token_usage", "%_high_priority", "%realtime%"),
}
# The order in which people read them.
FAMILIES = (
    "voice engine", "voice", "model", "telephony", "surcharge", "add-on", "analysis", "per item",
    OTHER,
)  # fmt: skip

_ABBREVIATIONS = {name.lower(): name for name in ("GPT", "LLM", "PII", "SMS", "TTS", "US")}


def _regex(patterns: Iterable[str]) -> re.Pattern[str]:
    # Retell writes gpt-4o-mini and gpt_4o_mini.
    parts = [re.escape(pattern).replace("_", "[-_]").replace("%", ".*") for pattern in patterns]
    return re.compile("|".join(parts), re.ASCII | re.DOTALL | re.IGNORECASE)


_COMPILED = {family: _regex(patterns) for family, patterns in _PATTERNS.items()}
# A product of a known family.
KNOWN = _regex(pattern for patterns in _PATTERNS.values() for pattern in patterns)


def product_family(product: str) -> str | None:
    """The family of a product, in either spelling; None if unknown."""
    return next((f for f, pattern in _COMPILED.items() if pattern.fullmatch(product)), None)


def product_label(product: str) -> str:
    """The name of a product for people: "GPT 4.1 mini" for gpt_4_1_mini."""
    words = re.sub(r"(?<=\d)[-_](?=\d)", ".", product).replace("_", "-").split("-")
    name = " ".join(_ABBREVIATIONS.get(word, word) for word in words)
    return name[:1].upper() + name[1:]


def family_sql(product: str) -> str:
    """SQL for the family of a product, itself SQL with `_` for `-`; `other` if unknown."""
    branches = []
    for family, patterns in _PATTERNS.items():
        likes = [
            f"lower({product}) LIKE '{pattern.replace('_', '!_')}' ESCAPE '!'"
            for pattern in patterns
        ]
        branches.append(f"WHEN {' OR '.join(likes)} THEN '{family}'")
    return f"CASE {' '.join(branches)} ELSE '{OTHER}' END"
