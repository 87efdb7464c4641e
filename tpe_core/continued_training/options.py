"""What an experiment of continued training is asked to do: its scenarios, its variants, its numbers.

Plain values; importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Literal

from tpe_core.errors import TpeError
from tpe_core.options import RunOptions, several
from tpe_core.registry import Registry

__all__ = ["SCENARIOS", "UNEDITED", "VARIANTS", "Scenario", "TrainOnOptions", "Variant"]

Reads = Literal["own", "other", "instructions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scenario:
    """One way to go on training: which text is read, at which share of the learning rate, which parameters move."""

    name: str
    about: str
    reads: Reads = "own"
    rate: float = 1.0  # times the learning rate
    is_adapter: bool = False  # LoRA instead of all parameters, whatever the options say


SCENARIOS: Registry[Scenario] = Registry(
    "scenario",
    Scenario(name="same", about="the text of --text"),
    Scenario(name="other", about="another domain, the text of --ood", reads="other"),
    Scenario(name="fast", about="the text of --text, at ten times the learning rate", rate=10.0),
    Scenario(name="lora", about="the text of --text, LoRA adapters instead of all parameters", is_adapter=True),
    Scenario(name="instructions", about="the chats of --instructions, in the model's template", reads="instructions"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One way to treat the edit while the model is trained."""

    name: str
    about: str


VARIANTS: Registry[Variant] = Registry(
    "variant",
    Variant(name="kept", about="the edit held in force at every forward, in training and after"),
    Variant(name="free", about="the edit baked into the weights, which are then trained like any others"),
    Variant(name="random", about="a random mask of the same size held in force, another draw for every seed"),
)

UNEDITED = "unedited"
"""The variant that every other one is compared with."""


@dataclass(frozen=True)
class TrainOnOptions:
    """What to train, from what, how long and where the runs go.

    `run` names the model and its text. Three quarters of a text's blocks are trained on, the rest is only measured;
    `ood` is another domain's text (the built-in source code where empty), `instructions` files of chats. A step takes
    `batch` blocks of at most 256 tokens; figures are taken at step 0, every `every` steps, and at the last, on
    `evaluated` positions of each text. `lora` trains adapters of that rank in every scenario. With `keep_weights`
    the weights of finished runs stay on the disk.

    Example:
        >>> options = tpe.TrainOnOptions(tpe.RunOptions("demo"), masks=(Path("mask.json"),), out=Path("runs"))
        >>> options.steps, options.points
        (60, (0, 20, 40, 60))
    """

    run: RunOptions
    _: KW_ONLY
    masks: tuple[Path, ...]
    out: Path
    scenarios: tuple[str, ...] = ("same",)
    variants: tuple[str, ...] = field(default_factory=lambda: tuple(VARIANTS))
    seeds: int = 3
    steps: int = 60
    every: int = 20
    batch: int = 4
    evaluated: int = 2048
    learning_rate: float = 1e-4
    lora: int | None = None
    ood: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    keep_weights: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", tuple(map(Path, self.masks)))
        for name in ("ood", "instructions"):
            object.__setattr__(self, name, several(getattr(self, name)))
        for name in ("scenarios", "variants"):
            object.__setattr__(self, name, tuple(dict.fromkeys(several(getattr(self, name)))))
        for name in self.scenarios:
            SCENARIOS.choose(name)
        for name in self.variants:
            VARIANTS.choose(name)
        for name in ("seeds", "steps", "every", "batch", "evaluated"):
            if getattr(self, name) < 1:
                raise TpeError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not 0 < self.learning_rate < 1:
            raise TpeError(f"the learning rate must lie between 0 and 1, not {self.learning_rate:g}: try 1e-4.")
        if self.lora is not None and self.lora < 1:
            raise TpeError(f"the rank of LoRA adapters must be at least 1, not {self.lora}: try 8.")
        if not self.masks:
            raise TpeError("there is no edit to train on with: name the file of a saved intervention with --mask.")
        if not self.scenarios or not self.variants:
            raise TpeError("there is nothing to train: name at least one scenario and one variant.")
        stems = [path.stem for path in self.masks]
        if twice := next((stem for stem in stems if stems.count(stem) > 1 or stem == UNEDITED), None):
            raise TpeError(f"{twice!r} does not name one mask alone: give every mask's file another name.")
        wants_chats = any(SCENARIOS[name].reads == "instructions" for name in self.scenarios)
        if wants_chats and not self.instructions:
            raise TpeError("the scenario instructions trains on chats: name a file of them with --instructions.")

    @property
    def points(self) -> tuple[int, ...]:
        """The steps at which figures are taken and a run can be taken up again."""
        return (*range(0, self.steps, self.every), self.steps)

    def rank(self, scenario: Scenario) -> int | None:
        """The rank of the adapters that a scenario trains; None where it trains all parameters."""
        return (self.lora or 8) if scenario.is_adapter else self.lora
