"""Numbers and text as terminal cells: fixed widths, no surprises from wide or invisible characters.

Nothing here knows a widget, and nothing here interprets markup.
"""

from __future__ import annotations

import math
import re
import sys
import time
import unicodedata

from rich.cells import cell_len, set_cell_size

from tpe_core.clamping import at_least, at_most

__all__ = [
    "bar",
    "clock_or_date",
    "count",
    "duration",
    "elapsed",
    "escape_controls",
    "fit",
    "four_decimals",
    "number",
    "p_value",
    "percent",
    "points",
    "shown_prompt",
    "tick",
    "typed_prompt",
]

NUMBER_CELLS, PERCENT_CELLS = 8, 7
EIGHTHS = " ▏▎▍▌▋▊▉█"
ESCAPE = re.compile(r"\\(?:[ntr\\]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})")
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def fit(text: str, width: int, right: bool = False) -> str:
    """Exactly `width` cells of `text`: padded, or cut with an ellipsis."""
    if width <= 0:
        return ""
    length = cell_len(text)
    if length > width:
        return set_cell_size(set_cell_size(text, width - 1).rstrip(" ") + "…", width)
    space = " " * (width - length)
    return space + text if right else text + space


def number(value: float, signed: bool = False) -> str:
    """Two to four significant digits in at most eight cells."""
    if not math.isfinite(value):
        return f"{value:{'+' if signed else ''}}"
    sign = "+z" if signed else "z"
    size = abs(value)
    if size >= 1e5 or 0 < size < 1e-3:
        text = f"{value:{sign}.1e}"
        return text if len(text) <= NUMBER_CELLS else f"{value:{sign}.0e}"
    if size >= 1000:
        return f"{value:{sign}.0f}"
    decimals = 4 if 0 < size < 0.01 else 3 if size < 10 else 2 if size < 100 else 1
    return f"{value:{sign}.{decimals}f}"


def four_decimals(value: float) -> str:
    """A divergence, a slope: four decimals where they say enough of it, else as `number` writes it."""
    return f"{value:z.4f}" if 1e-3 <= abs(value) < 10 or value == 0 else number(value)


def p_value(p: float, digits: int = 1) -> str:
    """The probability of a test: `digits` significant digits below 0.001, and a bound below what is worth telling."""
    return "<1e-99" if p < 1e-99 else f"{p:.{digits - 1}e}" if p < 1e-3 else f"{p:z.3f}"


def clock_or_date(seconds: float) -> str:
    """A time since 1970 as people say it: the clock's of today, else the date."""
    then = time.localtime(seconds)
    return time.strftime("%H:%M" if then[:3] == time.localtime()[:3] else "%Y-%m-%d", then)


def count(value: int) -> str:
    """An integer with thin grouping: 50257 is 50,257."""
    return f"{value:,}"


def percent(p: float) -> str:
    """A probability in at most seven cells: 12.3%, 0.0031%, 3.1e-7%; two digits of whatever is above 0."""
    share = 100 * p
    if math.isnan(share):
        return "nan"
    if math.isinf(share) or share == 0:
        return f"{share:z.0f}%"
    if share >= 0.001:
        if share >= 99.95:
            return f"{share:.0f}%"
        return f"{share:.{1 if share >= 10 else 2 if share >= 0.1 else 3 if share >= 0.01 else 4}f}%"
    text = _short_exponent(f"{share:.1e}%")
    return text if len(text) <= PERCENT_CELLS else _short_exponent(f"{share:.0e}%")


def points(delta: float, fine: bool = False) -> str:
    """A change of probability in percentage points, signed; a dot where it rounds to nothing and need not be `fine`."""
    value = 100 * delta
    if fine and 0 < abs(value) < 0.01:
        return _short_exponent(f"{value:+.0e}")
    if abs(value) < 0.005:
        return "·"
    return f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.2f}"


def _short_exponent(text: str) -> str:
    """Without the zero that leads an exponent: 3.1e-7 for 3.1e-07."""
    return text.replace("e-0", "e-").replace("e+0", "e+")


def tick(value: float, width: int) -> str:
    """The shortest text in `width` cells that is exactly the value; empty where there is none."""
    texts = [f"{value:z.{digits}g}" for digits in range(1, 10)] + [f"{value:z.0f}"]
    exact = [text for text in texts if len(text) <= width and math.isclose(float(text), value, rel_tol=1e-9)]
    return min(exact, key=len, default="")


def bar(share: float, width: int) -> str:
    """`share` of `width` cells as eighth-blocks, padded; blank where it is NaN."""
    eighths = 0 if math.isnan(share) else round(at_most(1.0, at_least(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)[:width]


def elapsed(seconds: float) -> str:
    """Minutes and seconds: 0:12."""
    if not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(int(at_least(0.0, seconds)), 60)
    return f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """A time that is only roughly known: 40 s, 12 min, 1.6 h."""
    if seconds < 90:
        return f"{max(1, round(seconds, -1 if seconds >= 20 else 0)):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def escape_controls(text: str) -> str:
    """`text` with every invisible or direction-changing character spelled out, safe in any terminal."""
    return "".join(
        char if unicodedata.category(char) not in UNSEEN else char.encode("unicode_escape").decode("ascii")
        for char in text
    )


def shown_prompt(prompt: str) -> str:
    """A prompt on one editable line: newline and tab as ``\\n`` and ``\\t``, a backslash doubled."""
    return prompt.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t")


def typed_prompt(line: str) -> str:
    """The prompt that `escape_controls` of `shown_prompt` shows as `line`."""
    return ESCAPE.sub(_unescaped, line)


def _unescaped(found: re.Match[str]) -> str:
    escape = found[0]
    if escape[1] not in "xuU":
        return {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}[escape[1]]
    code = int(escape[2:], 16)
    is_character = code <= sys.maxunicode and not 0xD800 <= code <= 0xDFFF  # half a surrogate pair is none
    return chr(code) if is_character else escape
