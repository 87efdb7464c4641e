"""Wrapping generated text: nothing is lost or out of order, every line fits, tokens keep their role and step."""

from __future__ import annotations

import numpy as np
import pytest
from rich.cells import cell_len

from tpe_core.generation.paired import Continuation, GeneratedToken
from tpe_tui.token_text import BINS, CHANGED, DIFFERS, END, Tagged, bin_of, tagged, wrap

WORDS = [
    "value",
    " the",
    " a",
    "漢字",
    "\n",
    " 🙂",
    "e\u0301",
    " supercalifragilistic",
    "\t",
    "  ",
    ".",
    "\x1b[31m",
    "\u202e",
]


def side(texts: list[str], ended: bool = False) -> Continuation:
    return Continuation(
        tuple(GeneratedToken(token_id=i, text=text, p=0.9, p_base=0.001, kl=0.1) for i, text in enumerate(texts)), ended
    )


@pytest.mark.parametrize("seed", range(20))
def test_every_line_fits_and_the_text_is_all_there(seed: int) -> None:
    rng = np.random.default_rng(seed)
    said = side([WORDS[i] for i in rng.integers(0, len(WORDS), 80)], ended=True)
    width = int(rng.integers(4, 40))
    found = wrap(tagged(said, lambda one: one.p), width)
    assert max(sum(cell_len(part.text) for part in line) for line in found) <= width
    shown = "".join(part.text for line in found for part in line)
    wide = "".join(part.text for line in wrap(tagged(said, lambda one: one.p), 10_000) for part in line)
    assert shown.replace(" ", "").replace("⏎", "") == wide.replace(" ", "").replace("⏎", "")
    assert not {"\x1b", "\u202e", "\t", "\n"} & set(shown)
    steps = [part.step for line in found for part in line if part.step >= 0]
    assert steps == sorted(steps)


def test_words_are_kept_whole_where_they_fit() -> None:
    def plain(text: str, width: int) -> list[str]:
        return ["".join(part.text for part in line) for line in wrap([Tagged(text, "row")], width)]

    assert plain("the number of elements", 10) == ["the number", "of", "elements"]
    assert plain("the number of elements", 11) == ["the number ", "of elements"]
    assert plain("abcdefghij klm", 4) == ["abcd", "efgh", "ij", "klm"]
    assert plain("漢字漢字", 5) == ["漢字", "漢字"]
    assert plain("a bc漢", 4) == ["a", "bc漢"]
    assert plain("a bcd漢", 4) == ["a", "bcd", "漢"]
    assert plain("a\n\nb", 5) == ["a⏎", "⏎", "b"]
    assert plain("    x = 1", 40) == ["    x = 1"]
    assert plain("", 5) == [""]


def test_marks_and_roles() -> None:
    found = list(tagged(side([" one", "two", "  "], ended=True), lambda one: one.p_base, differs=1, changes={0, 2}))
    assert "".join(part.text for part in found) == f" {CHANGED}one{DIFFERS}two{CHANGED}  {END}"
    assert [part.role for part in found if part.step == 1] == ["rare"]
    assert [part.role for part in tagged(side(["x"]), lambda one: one.p)] == ["likely"]
    assert [bin_of(p).label for p in (1, 0.5, 0.49, 0.05, 0.049, 0.005, 0.0049, 0)] == [
        label for each in BINS for label in (each.label, each.label)
    ]
