"""Pauses in steps that take long on large models: between a forward pass's layers, large products, files read.

At a pause, whoever drives the job (`tpe_core.progress.attended`) answers a short question or ends the job. What is
computed does not depend on it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from tpe_core.progress import Progress, attendant

if TYPE_CHECKING:
    from torch import nn

__all__ = ["pause", "pauses_between_layers"]


def pause(progress: Progress | None = None) -> None:
    """Let whoever drives the job do something short. Raises what that raises, to end the step.

    `progress` says how far the step is. Autograd is meanwhile as it is outside of any job, so that what is kept there
    can be changed later.
    """
    with attendant() as attend:
        if attend is not None:
            torch = sys.modules.get("torch")  # reading text needs none
            with nullcontext() if torch is None else torch.inference_mode(False):
                attend(progress)


@contextmanager
def pauses_between_layers(model: nn.Module, label: str = "forward pass") -> Iterator[None]:
    """Pause before every layer of a model that runs inside; none are added where nobody attends.

    `label` names the pass in the progress that is told at each pause.
    """
    with attendant() as attend:
        layers = [] if attend is None else list(_layers(model))
    handles = [
        layer.register_forward_pre_hook(_pausing(Progress(label, done, len(layers))))
        for done, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pausing(progress: Progress) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    return lambda _, __: pause(progress)


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of the outermost lists of modules."""
    from torch import nn

    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from child
        else:
            yield from _layers(child)
