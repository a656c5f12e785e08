"""The tables [grading] and [[grading.question]] of callhouse.toml, parsed strictly.

In: the table [grading]. Out: GradingSettings. Without a question, nothing is asked.
"""

import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

from receiver.config_checks import named_tables, require_int, require_known, table

TEXTS = ("scrubbed", "full")
MAX_ASK = 2_000
_SETTINGS = (
    "model", "text", "requests_per_day", "price_per_million_input_tokens",
    "price_per_million_output_tokens", "question",
)  # fmt: skip
_QUESTION = ("name", "ask", "answer", "where", "where_chats", "sample")
_SCALE = re.compile(r"(\d{1,2})-(\d{1,2})", re.ASCII)
_MAX_SCALE = 10


@dataclass(frozen=True, slots=True)
class Question:
    """A question about calls, and about chats if `where_chats` is a condition over them.

    `where` is a condition over calls; empty means all. `sample` is the number of calls, and of
    chats, per agent and day; None means all.
    """

    name: str
    ask: str
    answers: tuple[str, ...] = ("yes", "no")
    where: str = ""
    sample: int | None = None
    where_chats: str = ""

    @property
    def is_scale(self) -> bool:
        """Whether answers are numbers, which have a mean."""
        return self.answers[0].isdecimal()

    @property
    def version(self) -> str:
        """A hash of the text and its answers: answers of different versions are not compared."""
        text = "\0".join((self.ask, *self.answers))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class GradingSettings:
    """The model, what it reads, its prices in dollars, and the questions."""

    model: str = ""
    text: str = "scrubbed"
    requests_per_day: int = 1_000
    input_price: float | None = None
    output_price: float | None = None
    questions: tuple[Question, ...] = field(default=())

    @property
    def author(self) -> str:
        """The author of the answers."""
        return f"model:{self.model}"

    @property
    def track(self) -> str:
        """The list of turns that the model reads."""
        return "session" if self.text == "full" else "scrubbed_session"

    def dollars(self, input_tokens: float, output_tokens: float) -> float | None:
        """The cost of tokens; None without prices."""
        if self.input_price is None or self.output_price is None:
            return None
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1e6


def parse_grading(value: Any) -> GradingSettings:
    """The table [grading]. Raises ValueError with a message for a person."""
    require_known(table(value, "grading"), _SETTINGS, "[grading]")
    model, text = value.get("model"), value.get("text", "scrubbed")
    if not isinstance(model, str) or not re.fullmatch(r"[^\s]{1,100}", model):
        raise ValueError("grading.model must be the name of a model")
    if text not in TEXTS:
        raise ValueError('grading.text must be "scrubbed" or "full"')
    most = value.get("requests_per_day", 1_000)
    require_int(most, 1, 1_000_000, "grading.requests_per_day")
    prices = [_price(value, f"price_per_million_{kind}_tokens") for kind in ("input", "output")]
    if (prices[0] is None) != (prices[1] is None):
        raise ValueError("grading needs both prices, of input and output tokens, or none")
    asked = named_tables(value.get("question", []), "[[grading.question]]", "questions")
    questions = tuple(_question(name, each) for name, each in asked.items())
    return GradingSettings(model, text, most, prices[0], prices[1], questions)


def _price(value: dict[str, Any], name: str) -> float | None:
    found = value.get(name)
    if found is None:
        return None
    if not isinstance(found, int | float) or isinstance(found, bool) or not 0 <= found <= 1e6:
        raise ValueError(f"grading.{name} must be a number of dollars")
    return float(found)


def _question(name: str, value: dict[str, Any]) -> Question:
    where = f"the question {name}"
    require_known(value, _QUESTION, "[[grading.question]]")
    ask = value.get("ask")
    conditions = {name: value.get(name, "") for name in ("where", "where_chats")}
    if not isinstance(ask, str) or not 0 < len(ask.strip()) <= MAX_ASK:
        raise ValueError(f"ask of {where} must be text of at most {MAX_ASK:,} characters")
    for each, kind in (("where", "calls"), ("where_chats", "chats")):
        if not isinstance(conditions[each], str):
            raise ValueError(f"{each} of {where} must be a condition over {kind}, as text")
    sample = value.get("sample")
    if sample is not None:
        require_int(sample, 1, 10_000, f"sample of {where}")
    answers = _answers(value.get("answer", "yes_no"), where)
    over = (text.strip() for text in conditions.values())
    return Question(name, ask.strip(), answers, next(over), sample, next(over))


def _answers(value: Any, where: str) -> tuple[str, ...]:
    if value == "yes_no":
        return ("yes", "no")
    scale = _SCALE.fullmatch(value) if isinstance(value, str) else None
    low, high = map(int, scale.groups()) if scale else (0, 0)
    if not low < high <= _MAX_SCALE:
        raise ValueError(f'answer of {where} must be "yes_no" or a scale up to 10, such as "1-5"')
    return tuple(map(str, range(low, high + 1)))
