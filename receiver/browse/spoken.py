"""A turn's words as markup: each a span with its times, tools marked at the very word.

Built here and not in the template, of plain strings, for a call of two hours has twenty thousand
words. Every piece of text goes through escape().
"""

from html import escape

from markupsafe import Markup

from receiver.browse.conversation import ToolCall, Turn, Word


def spoken(turn: Turn) -> Markup:
    """The words of a turn. The player finds data-start and data-end, in seconds."""
    last = len(turn.words) - 1
    pieces = [_word(word) for word in turn.words]
    for tool in turn.tools:
        at = last if tool.after_word is None else min(tool.after_word, last)
        pieces[at] += _mark(tool)
    return Markup("".join(pieces))


def _word(word: Word) -> str:
    text, start, end = word
    if start is None:
        return escape(text)
    # The space stays outside, so that the highlight covers the word alone.
    said = text.rstrip()
    until = "" if end is None else f" data-end={end:.2f}"
    return f"<span data-start={start:.2f}{until}>{escape(said)}</span>{text[len(said) :]}"


def _mark(tool: ToolCall) -> str:
    label = escape(f"{tool.name}: {tool.outcome}")
    return f'<a class="mark" href="#tool-{tool.position}" title="{label}">{escape(tool.name)}</a> '
