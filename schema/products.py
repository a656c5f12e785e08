"""The families of what Retell bills: its product names are an open list, so they go by pattern.

A new model or voice is known by its family; a name of no family is drift. The names were seen in
bills and rate cards of 2024 to 2026.
"""

import re

# Family -> the names in it. The first that matches counts: a text model is no call's model.
_PATTERNS = {
    "surcharge": r"\w*_surcharge",
    "analysis": r"post_call_analysis\w*|\w*_text_testing",
    "voice engine": r"(retell_)?voice_engine",
    "voice": r"\w*_tts(_\w+)?",
    "telephony": r"\w*_telephony|\w*(twilio|telnyx)\w*",
    "add-on": (
        r"background_voice_cancellation|knowledge_base\w*|guardrail\w*|pii_scrubbing"
        r"|colloquial_mode|stable_server|quality_assurance"
    ),
    "per item": r"branded_outbound_call|batch_call|sms_message",
    "model": r"(gpt|claude|gemini)_\w+|llm_token_usage|\w*_high_priority|\w*realtime\w*",
}
FAMILIES = {family: re.compile(pattern) for family, pattern in _PATTERNS.items()}


def product_family(product: str) -> str | None:
    """The family of a product, in either spelling (gpt-4o-mini, gpt_4o_mini); None if unknown."""
    name = product.lower().replace("-", "_")
    return next((f for f, pattern in FAMILIES.items() if pattern.fullmatch(name)), None)
