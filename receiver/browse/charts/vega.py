"""Vega-Lite specifications: one function per type of chart. Colours are names in callhouse.css.

static/charts.js sets axes, fonts and what depends on the width of the page.
"""

from datetime import date
from typing import Any

from receiver.browse.charts.macros import Days
from receiver.browse.formatting import label
from schema import products

Spec = dict[str, Any]
Colours = dict[str, str]

OUTCOMES = {
    "user": "--c1",
    "agent": "--c2",
    "transfer": "--c3",
    "limit": "--c7",
    "error": "--bad",
    "not_connected": "--c8",
    "unknown": "--c6",
    "no end yet": "--line",
}
# A chat without a reason has its status instead.
CHAT_OUTCOMES = {"ended": "--c4", "ongoing": "--c5"} | OUTCOMES
SENTIMENTS = {"positive": "--good", "neutral": "--c8", "negative": "--bad", "unknown": "--line"}
# Text on these colours.
_ON_SENTIMENTS = {"neutral": "--on-c8", "unknown": "--text"}
PERCENTILES = {"p50": "--c1", "p90": "--c4", "p95": "--c2", "p99": "--bad"}
FAILURES = {"did not run": "--bad", "ran without success": "--c2"}
# Families of products, in the order in which people read them.
FAMILIES = dict(
    zip(
        products.FAMILIES,
        ("--c1", "--c3", "--c2", "--c4", "--c6", "--c5", "--c7", "--bad", "--c8"),
        strict=True,
    )
)
# Columns that charts.js shows as labels.
_LABELLED = frozenset({"reason", "outcome", "component", "sentiment", "family"})
VISITS = {"continued": "--c1", "ended there": "--c2"}
_ANY = [f"var(--c{n})" for n in range(1, 9)]

_WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
_HOURS = [f"{hour:02}" for hour in range(24)]
_DAY_MS = 86_400_000
_STEP_MS = {"day": _DAY_MS, "week": 7 * _DAY_MS, "month": 30 * _DAY_MS}
_DATES = {"day": "%a %-d %b %Y", "week": "week of %-d %b %Y", "month": "%B %Y"}
# Cells of heat maps with fewer calls are faded.
FEW = 5
_HEIGHT = 240
_ROW_HEIGHT = 24
_BY_RANK = [{"field": "rank"}]
_NAMES = {"type": "nominal", "title": None}
# Bars with values need no axis.
_NO_AXIS = {"axis": None}
_VALUE = {"type": "text", "color": "var(--text)", "fontSize": 11}
# Smaller parts of a bar of shares are too small for their value.
_LEGIBLE = 0.08


def stacked(
    days: Days,
    kind: str,
    amount: str,
    colours: Colours,
    *also: str,
    form: str = ",d",
    is_share: bool = False,
) -> Spec:
    """Stacked bars over time, a colour for each kind. Each bar shows its sum; with shares, each
    part shows its value, and the bar the sum of the first of `also`. charts.js omits values that do
    not fit.
    """
    half = 0.43 * _STEP_MS[days.step]
    scale = {"scale": {"domainMax": 1}} if is_share else {}
    bars = {
        "mark": "rect",
        "encoding": {
            "x": _time(days) | {"field": "from"},
            "x2": {"field": "to"},
            "y": _amount("bottom", form) | scale,
            "y2": {"field": "top"},
            "color": _colour(kind, colours),
            "tooltip": [_date(days), _text(kind), _number(amount, form), *map(_number, also)],
        },
    }
    whole, whole_form = (also[0], ",d") if is_share else (amount, form)
    sums = {
        "transform": [{"filter": "datum.n === 1"}],
        "mark": _VALUE | {"baseline": "bottom", "dy": -3},
        "encoding": {
            "x": _time(days) | {"field": "at"},
            "y": {"datum": 1} if is_share else _amount("total", form),
            "text": _number("total", whole_form),
        },
    }
    return {
        "height": _HEIGHT,
        "transform": [
            {"calculate": "+toDate(datum.day)", "as": "at"},
            {"calculate": f"datum.at - {half}", "as": "from"},
            {"calculate": f"datum.at + {half}", "as": "to"},
            _rank(kind, colours),
            {"stack": amount, "groupby": ["day"], "sort": _BY_RANK, "as": ["bottom", "top"]},
            *_sums(whole, "day"),
        ],
        "layer": [bars, *([_shares(days, kind, amount, form)] if is_share else []), sums],
        "usermeta": {
            "bars": (days.until - days.since).days * _DAY_MS // _STEP_MS[days.step] + 1,
            "whole": whole if is_share else "",
        },
    }


def _shares(days: Days, kind: str, amount: str, form: str) -> Spec:
    """The values within stacked bars of shares."""
    return {
        "transform": [
            {"filter": f"datum.{amount} >= {_LEGIBLE}"},
            {"calculate": "(datum.bottom + datum.top) / 2", "as": "middle"},
        ],
        "mark": _VALUE | {"baseline": "middle"},
        "encoding": {
            "x": _time(days) | {"field": "at"},
            "y": _amount("middle", form),
            "text": _number(amount, form),
            "color": _on(kind),
        },
    }


def lines(days: Days, kind: str, amount: str, colours: Colours | None, *also: str) -> Spec:
    """Lines over time, one per kind."""
    return {
        "height": _HEIGHT,
        "transform": [{"calculate": "+toDate(datum.day)", "as": "at"}],
        "mark": {"type": "line", "point": {"size": 24}},
        "encoding": {
            "x": _time(days) | {"field": "at"},
            "y": _amount(amount, ",d"),
            "color": _colour(kind, colours),
            "tooltip": [_date(days), _text(kind), _number(amount), *map(_number, also)],
        },
    }


def share_with_band(days: Days, share: str, part: str, whole: str) -> Spec:
    """A share over time with its 95 % confidence interval, by Wilson's score."""
    z2 = 1.96**2
    p, n = f"datum.{share}", f"datum.{whole}"
    centre = f"({p} + {z2 / 2} / {n}) / (1 + {z2} / {n})"
    reach = f"1.96 * sqrt({p} * (1 - {p}) / {n} + {z2 / 4} / ({n} * {n})) / (1 + {z2} / {n})"
    x = _time(days) | {"field": "at"}
    tooltip = [
        _date(days),
        *(_number(name, ".0%") for name in (share, "low", "high")),
        _number(part),
        _number(whole),
    ]
    return {
        "height": _HEIGHT,
        "transform": [
            {"calculate": "+toDate(datum.day)", "as": "at"},
            {"calculate": f"{centre} - {reach}", "as": "low"},
            {"calculate": f"{centre} + {reach}", "as": "high"},
        ],
        "layer": [
            {
                "mark": {"type": "area", "color": "var(--c1)", "opacity": 0.18},
                "encoding": {
                    "x": x,
                    "y": _amount("low", ".0%") | {"scale": {"domain": [0, 1]}},
                    "y2": {"field": "high"},
                },
            },
            {
                "mark": {"type": "line", "color": "var(--c1)", "point": {"color": "var(--c1)"}},
                "encoding": {"x": x, "y": _amount(share, ".0%"), "tooltip": tooltip},
            },
        ],
    }


def week_heatmap(amount: str, form: str, *, count: str = "") -> Spec:
    """Days of the week by hours of the day; darker is more. With `count`, cells of a share of fewer
    than FEW are faded, and have no colour."""
    cells: Spec = {"mark": {"type": "rect", "color": "var(--c1)"}}
    if count:
        cells = {
            "layer": [
                {"transform": [{"filter": f"datum.{count} >= {FEW}"}], **cells},
                {
                    "transform": [{"filter": f"datum.{count} < {FEW}"}],
                    "mark": {"type": "rect", "color": "var(--c8)", "fillOpacity": 0.4},
                },
            ]
        }
    return {
        "height": {"step": 26},
        # Without calls there is no share; that differs from 0 %.
        "transform": [{"filter": f"isValid(datum.{amount})"}],
        **cells,
        "encoding": {
            "x": {
                "field": "hour",
                "type": "ordinal",
                "scale": {"domain": _HOURS},
                "axis": {"title": None, "labelAngle": 0},
            },
            "y": {
                "field": "weekday",
                "type": "ordinal",
                "scale": {"domain": _WEEKDAYS},
                "title": None,
            },
            "opacity": {
                "field": amount,
                "type": "quantitative",
                "scale": {"range": [0.1, 1]} | ({"domain": [0, 1]} if count else {"domainMin": 0}),
                "legend": {"title": None, "format": form, "tickCount": 4},
            },
            "tooltip": [
                _text("weekday"),
                _text("hour"),
                _number("calls"),
                _number("connected", ".0%"),
                _number("success", ".0%"),
                _number("judged"),
            ],
        },
    }


def ranked(
    name: str,
    amount: str,
    form: str,
    *,
    kind: str = "",
    colours: Colours | None = None,
    **also: str,
) -> Spec:
    """Horizontal bars in the order of the rows, with a colour for each `kind`; `also` adds names
    and formats to the tooltip."""
    bars = _horizontal(name, amount, form, also)
    if kind:
        bars["color"] = _colour(kind, colours)
    if colours is FAMILIES:
        # The chart above has the legend.
        bars["color"]["legend"] = None
    return {
        "height": {"step": _ROW_HEIGHT},
        "encoding": {"y": _NAMES | {"field": name, "sort": None}},
        "layer": [
            {"mark": {"type": "bar", "color": "var(--c1)"}, "encoding": bars},
            _values(amount, form),
        ],
    }


def stacked_bars(name: str, amount: str, form: str, colours: Colours, **also: str) -> Spec:
    """Horizontal stacked bars, a colour for each `what`; the longest first."""
    bars = _horizontal(name, amount, form, also)
    bars["tooltip"].insert(1, _text("what"))
    bars |= {"color": _colour("what", colours), "order": {"field": "rank"}}
    longest = {"op": "max", "field": "total", "order": "descending"}
    return {
        "height": {"step": _ROW_HEIGHT},
        "transform": [_rank("what", colours), *_sums(amount, name)],
        "encoding": {"y": _NAMES | {"field": name, "sort": longest}},
        "layer": [
            {"mark": "bar", "encoding": bars},
            {"transform": [{"filter": "datum.n === 1"}], **_values("total", form)},
        ],
    }


def _values(amount: str, form: str) -> Spec:
    """The values at the ends of horizontal bars."""
    return {
        "mark": _VALUE | {"align": "left", "baseline": "middle", "dx": 4},
        "encoding": {"x": _amount(amount, form) | _NO_AXIS, "text": _number(amount, form)},
    }


def _sums(amount: str, group: str) -> list[Spec]:
    """The sum of each bar, `total`, and `n`, which is 1 for one row of each."""
    return [
        {
            "joinaggregate": [{"op": "sum", "field": amount, "as": "total"}],
            "groupby": [group],
        },
        {"window": [{"op": "row_number", "as": "n"}], "groupby": [group]},
    ]


def _horizontal(name: str, amount: str, form: str, also: dict[str, str]) -> Spec:
    return {
        "x": _amount(amount, form) | _NO_AXIS,
        "tooltip": [
            _text(name),
            _number(amount, form),
            *(_number(other, f) if f else _text(other) for other, f in also.items()),
        ],
    }


def _time(days: Days) -> Spec:
    """The time axis over all days, also those without a call."""
    first, last = (_DAY_MS * (day - date(1970, 1, 1)).days for day in (days.since, days.until))
    short = (days.until - days.since).days < 10
    return {
        "type": "temporal",
        "title": None,
        "scale": {
            "type": "utc",
            "nice": False,
            # Expressions, as Vega-Lite takes numbers for parts of dates and warns about x2.
            "domainMin": {"expr": f"{first - _STEP_MS[days.step] // 2}"},
            "domainMax": {"expr": f"{last + _STEP_MS[days.step] // 2}"},
        },
        "axis": {"format": "%b %Y" if days.step == "month" else "%-d %b", "grid": False}
        | ({"tickCount": "day"} if short else {}),
    }


def _rank(kind: str, colours: Colours) -> Spec:
    """Order stacks as in the legend instead of by alphabet."""
    order = "[" + ", ".join(f"'{name}'" for name in _domain(kind, colours)) + "]"
    return {"calculate": f"indexof({order}, datum.{kind})", "as": "rank"}


def _amount(name: str, form: str) -> Spec:
    return {"field": name, "type": "quantitative", "title": None, "axis": {"format": form}}


def _colour(kind: str, colours: Colours | None) -> Spec:
    scale: Spec = {"range": _ANY}
    if colours:
        names = [f"var({name})" for name in colours.values()]
        scale = {"domain": _domain(kind, colours), "range": names}
    return {"field": kind, "type": "nominal", "title": None, "scale": scale}


def _on(kind: str) -> Spec:
    """The colour of text on the colour of a kind of sentiment."""
    tests = [
        {"test": f"datum.{kind} === '{label(name)}'", "value": f"var({colour})"}
        for name, colour in _ON_SENTIMENTS.items()
    ]
    return {"condition": tests, "value": "var(--page)"}


def _domain(kind: str, colours: Colours) -> list[str]:
    return [label(name) if kind in _LABELLED else name for name in colours]


def _date(days: Days) -> Spec:
    when = {"field": "day", "type": "temporal", "title": days.step}
    return when | {"format": _DATES[days.step], "timeUnit": "utcyearmonthdate"}


def _text(name: str) -> Spec:
    return {"field": name, "type": "nominal", "title": name.replace("_", " ")}


def _number(name: str, form: str = ",d") -> Spec:
    return _text(name) | {"type": "quantitative", "format": form}
