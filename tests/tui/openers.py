"""An opener of fake sessions."""

from __future__ import annotations

from collections.abc import Callable

from tests.tui.fakes import FakeSession
from tpe_core.errors import ModelError
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps


def opener(*sessions: FakeSession, asked: list[RunOptions] | None = None) -> Callable[[RunOptions], Steps[FakeSession]]:
    """Opens the sessions by the name of their model; another name fails in its second step."""
    by_name = {session.table.info.name: session for session in sessions}

    def open_(options: RunOptions) -> Steps[FakeSession]:
        if asked is not None:
            asked.append(options)
        yield Progress("load model", 0)
        if options.model not in by_name:
            raise ModelError(f"the hub has no model {options.model}.")
        return by_name[options.model]

    return open_
