"""The detail's pairs: two to a line where both fit, and no value cut."""

from __future__ import annotations

import pytest

from tpe_tui.inspector.detail_pane import _rows


@pytest.mark.parametrize("width", range(26, 100))
def test_no_value_is_cut(width: int) -> None:
    pairs = [("mean p", "3.1e-05"), ("rank", "7,673/49,152"), ("count", "12"), ("static s", "+0.12"), ("odd", "1")]
    text = ["".join(part for part, _ in row) for row in _rows(pairs, width)]
    assert all(len(line) <= width for line in text)
    values = [word for line in text for word in line.split()]
    assert all(value in values for _, value in pairs), text
