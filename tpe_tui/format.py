"""Numbers and text as terminal cells: fixed widths, no surprises from wide or invisible characters.

Nothing here knows a widget, and nothing here interprets markup.
"""

from __future__ import annotations

import math
import unicodedata

from rich.cells import cell_len, set_cell_size

from tpe_core.clamping import at_least, at_most

__all__ = [
    "bar",
    "count",
    "elapsed",
    "escape_controls",
    "fit",
    "number",
    "percent",
    "points",
    "shown_prompt",
    "typed_prompt",
]

EIGHTHS = " ▏▎▍▌▋▊▉█"
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
    """Three to four significant digits in at most eight cells."""
    if not math.isfinite(value):
        return str(value)
    sign = "+" if signed and value >= 0 else ""
    size = abs(value)
    if size >= 1e5 or 0 < size < 1e-3:
        return f"{sign}{value:.1e}"
    if size >= 1000:
        return f"{sign}{value:.0f}"
    decimals = 3 if size < 10 else 2 if size < 100 else 1
    return f"{sign}{value:.{decimals}f}"


def count(value: int) -> str:
    """An integer with thin grouping: 50257 is 50,257."""
    return f"{value:,}"


def percent(p: float) -> str:
    """A probability in at most six cells."""
    share = 100 * p
    if math.isnan(share):
        return "nan"
    if share >= 99.95:
        return "100%"
    if share >= 10:
        return f"{share:.1f}%"
    if share >= 0.01:
        return f"{share:.2f}%"
    return "<0.01%" if p > 0 else "0%"


def points(delta: float) -> str:
    """A change of probability in percentage points, signed; a dot where it rounds to nothing."""
    value = 100 * delta
    if abs(value) < 0.005:
        return "·"
    return f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.2f}"


def bar(share: float, width: int) -> str:
    """`share` of `width` cells as eighth-blocks, padded; blank where it is NaN."""
    eighths = 0 if math.isnan(share) else round(at_most(1.0, at_least(0.0, share)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)[:width]


def elapsed(seconds: float) -> str:
    """Minutes and seconds: 0:12."""
    minutes, rest = divmod(int(at_least(0.0, seconds)), 60)
    return f"{minutes}:{rest:02d}"


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
    """The prompt that `shown_prompt` shows as `line`."""
    out: list[str] = []
    chars = iter(line)
    for char in chars:
        if char != "\\":
            out.append(char)
            continue
        following = next(chars, "")
        out.append({"n": "\n", "t": "\t", "\\": "\\"}.get(following, "\\" + following))
    return "".join(out)
