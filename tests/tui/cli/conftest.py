"""What the tests of several commands are given."""

from __future__ import annotations

import pytest

from tests.helpers.tiny_models import save_tiny


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """(the folder of a tiny model, the options that name its text)."""
    folder = tmp_path_factory.mktemp("given")
    path = folder / "text.txt"
    path.write_text(" ".join(f"Return the value {i} of the array at index {i % 7}." for i in range(3000)))
    return str(save_tiny(folder / "model")), ["--text", str(path), "--ood", str(path)]
