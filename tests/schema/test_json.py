"""Two readings of the same bytes agree: that of schema.events and that of json_model.py."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.json_bodies import (
    BODIES,
    NO_PIECES,
    NO_SPACES,
    NO_VALUES,
    NUMBERS,
    PIECES,
    SEEDS,
    TOKENS,
)
from tests.support.json_model import check_reading

# The same examples on every run.
fuzz = settings(deadline=None, derandomize=True, database=None, max_examples=100)


@st.composite
def mutated(draw) -> bytes:
    """A payload, or a written body, with a few places cut out, overwritten or put in."""
    body = draw(st.sampled_from(SEEDS) | BODIES)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = min(len(body), start + draw(st.sampled_from([0, 0, 0, 1, 2, 30])))
        body = body[:start] + draw(st.sampled_from(TOKENS)) + body[end:]
    return body


@fuzz
@given(BODIES)
def test_written_bodies_read_alike(body):
    check_reading(body)


@fuzz
@given(mutated())
def test_mutated_bodies_read_alike(body):
    check_reading(body)


EVERY_VALUE = [*NUMBERS, *NO_VALUES, *(f'"{piece}"' for piece in PIECES + NO_PIECES + NO_SPACES)]


@pytest.mark.parametrize("value", EVERY_VALUE)
@pytest.mark.parametrize("beside", ["", r',"y":"\ud83d\ude00"', r',"y":"\ud83d"'])
def test_every_value_reads_alike_beside_any_surrogate(value, beside):
    check_reading(f'{{"event":"call_ended","call":{{"call_id":"a","x":{value}{beside}}}}}'.encode())


@pytest.mark.parametrize("body", SEEDS)
def test_payloads_read_alike_whole_and_cut_anywhere(body):
    check_reading(body)
    for end in range(0, len(body), 1 + len(body) // 40):
        check_reading(body[:end])
