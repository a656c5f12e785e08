"""A version against the one before it: figures from the literature, and verdicts."""

import pytest

from receiver.browse.charts.versions import MIN_CALLS, compare_versions, verdict
from schema.statistics import Estimate, difference, mean, share


def ends(estimate, digits=4):
    return round(estimate.low, digits), round(estimate.high, digits)


@pytest.mark.parametrize(
    ("part", "count", "expected"),
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I.
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_a_share_has_wilsons_interval(part, count, expected):
    assert ends(share(part, count)) == expected


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    # Newcombe, "Interval estimation for the difference between independent proportions" (1998),
    # table II, method 10.
    [
        ((56, 70), (48, 80), (0.0524, 0.3339)),
        ((9, 10), (3, 10), (0.1705, 0.8090)),
        ((10, 10), (0, 20), (0.6791, 1.0)),
    ],
)
def test_a_difference_of_shares_has_newcombes_interval(now, before, expected):
    assert ends(difference(share(*before), share(*now))) == expected


def test_a_mean_has_the_normal_interval():
    """1 to 9: mean 5, variance 7.5, standard error sqrt(7.5 / 9)."""
    found = mean(45, 285, 9)
    assert found.value == 5
    assert ends(found) == (round(5 - 1.96 * (7.5 / 9) ** 0.5, 4), round(5 + 1.7892, 4))


def test_equal_values_have_no_interval():
    assert mean(0.1 * 3, 0.03 - 1e-18, 3).low == pytest.approx(0.1)


@pytest.mark.parametrize("nothing", [share(None, 0), mean(None, None, 0), share(0, None)])
def test_no_values_give_no_estimate(nothing):
    assert nothing is None


@pytest.mark.parametrize(
    ("low", "high", "better", "word"),
    [
        (0.01, 0.2, 1, "better"),
        (-0.2, -0.01, 1, "worse"),
        (0.01, 0.2, -1, "worse"),
        (-0.2, -0.01, -1, "better"),
        (0.01, 0.2, 0, "more"),
        (-0.2, -0.01, 0, "fewer"),
        (-0.01, 0.2, 1, "not yet known"),
        (0.0, 0.2, 1, "not yet known"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero(low, high, better, word):
    assert verdict(Estimate((low + high) / 2, low, high, MIN_CALLS), better)[0] == word


def test_few_calls_prove_nothing():
    assert verdict(Estimate(0.5, 0.4, 0.6, MIN_CALLS - 1), 1) == ("not yet known", "")


def row(agent, version, successful, judged=100, **also):
    """A row of receiver/browse/charts/versions.sql: every call cost 10 or 12 cents."""
    return {
        "agent_id": agent,
        "agent_version": version,
        "agent_name": agent.title(),
        "first_day": "2026-05-01",
        "last_day": "2026-05-09",
        "calls": judged,
        "successful": successful,
        "judged": judged,
        "negative": 10,
        "with_sentiment": judged,
        "transferred": 5,
        "answer_ms_sum": None,
        "answer_ms_squares": None,
        "answer_ms_count": 0,
        "cost_cents_sum": 11 * judged,
        "cost_cents_squares": 122 * judged,
        "cost_cents_count": judged,
    } | also


def test_each_version_is_compared_with_the_previous():
    found = compare_versions([row("a", 0, 50), row("a", 3, 80), row("a", 4, 60)], only_newest=False)
    assert [(v.version, v.before) for v in found] == [(4, 3), (3, 0), (0, None)]
    assert [v.cells[0].verdict for v in found] == ["worse", "better", ""]
    assert [v.cells[0].estimate for v in found] == ["60 %", "80 %", "50 %"]
    assert found[1].cells[0].change == "+17 to +42 points"
    assert found[1].cells[4].verdict == "not yet known"
    assert found[1].cells[4].estimate == "$0.110"


def test_newest_version_of_each_agent_largest_first():
    rows = [
        row("a", 1, 50),
        row("a", 2, 50),
        row("b", 7, 500, judged=1000),
        row("b", 8, 400, judged=1000),
        row("c", 0, 50),
    ]
    found = compare_versions(rows, only_newest=True)
    assert [(v.agent_id, v.version, v.before) for v in found] == [("b", 8, 7), ("a", 2, 1)]


def test_measures_without_values_are_left_out():
    [version] = compare_versions([row("a", 1, 5)], only_newest=False)
    assert version.cells[3] is None
    assert version.cells[0].change == ""


def test_charts_of_a_measure_share_a_scale():
    found = compare_versions([row("a", 1, 20), row("a", 2, 80)], only_newest=False)
    cells = [version.cells[0] for version in found]
    assert min(cell.low for cell in cells) == 0
    assert max(cell.high for cell in cells) == pytest.approx(100)
    assert all(cell.low < cell.value < cell.high for cell in cells)
