"""What an edit is measured by: one table with the names of files and documents, and labels for people."""

from __future__ import annotations

from dataclasses import dataclass

from tpe_core.registry import Registry

__all__ = ["AVERAGED", "METRICS", "Metric"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One figure of an edited head on a text."""

    name: str  # in JSON documents and saved interventions
    label: str
    short: str  # in narrow columns
    unit: str = ""
    is_plotted: bool = True  # whether a sweep draws curves of it
    has_log_axis: bool = True  # whether a logarithmic axis makes sense
    budget: str = ""  # a budget of it in words, with ``{:g}`` for the amount; empty where none can be asked for


METRICS: Registry[Metric] = Registry(
    "metric",
    Metric(name="kl", label="KL", short="KL", unit="nats", budget="a KL of {:g} nats"),
    Metric(name="js", label="JS", short="JS", unit="nats"),
    Metric(name="top1", label="top-1", short="top-1", unit="share that stays", has_log_axis=False),
    Metric(name="perplexity", label="perplexity", short="perplex.", budget="a perplexity of {:g}"),
    Metric(name="entropy", label="entropy", short="entropy", is_plotted=False),
)
"""``kl`` and ``js`` compare the edited distribution with the base one, ``top1`` is the share of positions whose most
probable token stays; ``perplexity`` and ``entropy`` are the edited head's own."""

AVERAGED = ("kl", "js", "top1", "nll", "entropy")
"""What is averaged over positions; perplexity is exp of the mean ``nll``."""
