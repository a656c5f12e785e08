"""Bytes of JSON, and bytes that are almost JSON, as strategies and as tokens."""

from hypothesis import strategies as st

from tests.support.webhooks import PAYLOADS

# Tokens that some parsers accept as JSON and others do not.
NUMBERS = [
    "0", "-0", "1", "-1", "0.0", "-0.0", "0.1e+5", "1E5", "1e999", "-1e999", "1e-999", "1.5e3",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" * 40, "1" * 4300,
    "1" * 4301, "-" + "1" * 5000, "0." + "3" * 400, "1" * 400 + ".5", "123456789.123456789e-5",
]  # fmt: skip
NO_VALUES = [
    "00", "01", "-", "+1", ".5", "1.", "1e", "1e+", "0x1", "1_0", "-01", "NaN", "Infinity",
    "-Infinity", "nan", "１", "nul", "None", "True", "undefined", "",
]  # fmt: skip
PIECES = [
    "a", "é", "😀", " ", "\x7f", "\u2028", "\ufeff", "\ufffe", "'", "/", r"\\", r"\"", r"\/", r"\b",
    r"\n", r"\u0041", r"\u0000", r"\\u0000", r"\\\u0000", r"\ud83d", r"\uD83D", r"\ude00",
    r"\uFFFF", r"\ud83d\ude00", r"\\ud83d\ude00", r"\ud83d\\ude00", r"\ufffd", r"\ud83d\u0041",
]  # fmt: skip
NO_PIECES = [
    "\x00", "\n", "\t", "\x1f", r"\u12", r"\u 123", r"\u+123", r"\u1_23", r"\x41", r"\U0041", "\\",
    r"\ud83d\ude0",
]  # fmt: skip
NO_SPACES = ["\x0b", "\xa0", "\x00", "\ufeff"]
NO_UTF_8 = [b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80"]
NAMES = ["event", "call", "data", "chat", "alert", "call_id", "chat_id", "call_status", "x", ""]
EVENT_NAMES = ["call_ended", "call_started", "call", "of_tomorrow"]
SPACE = st.sampled_from(["", "", "", " ", "\n", "\t\r "])
STRINGS = st.lists(st.sampled_from(PIECES), max_size=4).map(lambda p: '"' + "".join(p) + '"')
TEXTS = STRINGS | st.sampled_from([f'"{name}"' for name in EVENT_NAMES])
KEYS = st.sampled_from([f'"{name}"' for name in NAMES]) | STRINGS
SCALARS = st.sampled_from([*NUMBERS, "null", "true", "false"]) | TEXTS


def joined(opening: str, closing: str, items) -> st.SearchStrategy[str]:
    def write(parts) -> str:
        before, inner, after = parts
        return before + opening + ",".join(inner) + closing + after

    return st.tuples(SPACE, st.lists(items, max_size=4), SPACE).map(write)


def members(values) -> st.SearchStrategy[str]:
    return st.tuples(SPACE, KEYS, SPACE, values).map(lambda p: f"{p[0]}{p[1]}{p[2]}:{p[3]}")


def deep(value: str) -> st.SearchStrategy[str]:
    """`value` inside so many arrays or objects that the limit of depth is near."""
    depths = st.integers(195, 205)
    return depths.map(lambda n: "[" * n + value + "]" * n) | depths.map(
        lambda n: '{"a":' * n + value + "}" * n
    )


VALUES = st.recursive(
    SCALARS | SCALARS.flatmap(deep),
    lambda inner: joined("[", "]", inner) | joined("{", "}", members(inner)),
    max_leaves=8,
)
MEMBERS = joined("", "", members(VALUES))
BODIES = (
    joined("{", "}", members(VALUES))
    | MEMBERS.map('{{"event":"call_ended","call":{{"call_id":"a",{}}}}}'.format)
    | MEMBERS.map('{{{},"event":"chat_ended","chat":{{"chat_id":"a"}}}}'.format)
).map(str.encode)
SEEDS = [path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))]
TOKENS = NO_UTF_8 + [
    token.encode()
    for token in (
        *PIECES, *NO_PIECES, *NUMBERS, *NO_VALUES, *NO_SPACES,
        *'{}[]:,"', ',"call_id":"a"', ",null",
    )
]  # fmt: skip
