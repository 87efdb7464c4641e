"""A training run's trajectory."""

from __future__ import annotations

from tpe_core.dynamics.trajectory import Point, Skipped, Trajectory

FIRST = Point(
    name="step0", step=0, r2=0.1 + 0.2, r2_adjusted=-0.01, pc_correlations=(0.5, -0.25), convergence={"all": 1.0}
)
LAST = Point(
    name="step,8",
    step=8,
    r2=0.9,
    loss=2.5,
    convergence={"all": 0.0, "mlp": 1 / 3},
    change={"all": 1e-17},
    duplicate_of="step0",
)
RUN = Trajectory(
    source="runs/a",
    frequencies="9 tokens, add-one smoothing",
    tokens=9,
    unseen=2,
    points=(FIRST, LAST),
    skipped=(Skipped("step4", 4, "cut short"),),
)
