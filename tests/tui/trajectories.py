"""Made-up training runs of the right shape: an encoding that comes at a step, parameters that come at another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tpe_core.dynamics.trajectory import Point, Skipped, Trajectory
from tpe_core.errors import TpeError
from tpe_core.progress import Progress, Steps

STEPS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000)
GROUPS = {"all": 1.0, "embedding": 0.6, "mlp": 1.2, "layer 2": 0.9, "layer 10": 1.1}


def point(step: int, early: float = 20.0, late: float = 500.0, live: bool = False) -> Point:
    """A checkpoint: R2 is half-way at `early`, the parameters are about `late`; a `live` one knows no end."""
    r2 = 0.9 * step / (step + early)
    away = {group: max(0.0, 1 - step / 1000) ** (late / 700 * by) for group, by in GROUPS.items()}
    travel = {group: by * step / 400 for group, by in GROUPS.items()}
    return Point(
        name=f"step{step}", step=step, r2=r2 + 0.005, r2_adjusted=r2, r2_heldout_vocab=r2 - 0.05, top_dims=(3, 1),
        top_overlap=min(1.0, step / 64), pc_correlations=(0.8 * r2, 0.1), gini=0.4 + r2 / 5,
        participation_ratio=40 - 20 * r2, loss=9 - 6 * r2, convergence={} if live else away,
        change={} if step == 0 else {group: by / step for group, by in GROUPS.items()}, travel=travel,
    )  # fmt: skip


def trajectory(
    name: str = "demo", steps: tuple[int, ...] = STEPS, early: float = 20.0, live: bool = False
) -> Trajectory:
    """A whole run."""
    points = tuple(point(step, early, live=live) for step in steps)
    return Trajectory(
        source=name, frequencies="9,000 tokens of text, add-one smoothing", tokens=9000, unseen=17, points=points
    )


def flawed(name: str = "flawed") -> Trajectory:
    """A suite with a duplicate, a checkpoint that is broken and one that has no step."""
    whole = trajectory(name, early=80.0)
    points = tuple(replace(each, duplicate_of="step256") if each.step == 128 else each for each in whole.points)
    left = (point for point in points if point.step != 32)
    skipped = (
        Skipped("step32", 32, "model.safetensors is cut short"),
        Skipped("main-old", None, "no step in its name"),
    )
    return replace(whole, points=tuple(left), skipped=skipped, warnings=("step128 has the weights of step256.",))


KNOWN = {"demo": trajectory(), "flawed": flawed(), "runs/other": trajectory("runs/other", (0, 3, 30, 300, 2000), 150.0)}


class FakeReader:
    """Reads `KNOWN`, a checkpoint a step and calling `step` in each; a log's name is known always."""

    def __init__(self) -> None:
        self.step: Callable[[], object] = lambda: None
        self.read: list[str] = []
        self.closed: list[str] = []
        self.budgets: dict[str, str] = {}

    def __call__(self, name: str) -> Steps[Trajectory]:
        self.read.append(name)
        yield Progress("read", 0, partial=self.budgets.get(name))
        if name not in KNOWN and not name.endswith(".jsonl"):
            raise TpeError(f"there is nothing called {name}: give a folder, a log or a hub id.")
        whole = KNOWN.get(name) or trajectory(name, live=True)
        try:
            for count in range(1, len(whole.points) + 1):
                self.step()
                partial = replace(whole, points=whole.points[:count], skipped=(), warnings=())
                yield Progress("read", count, len(whole.points), note=whole.points[count - 1].name, partial=partial)
        finally:
            self.closed.append(name)
        return whole
