"""The bundled model's card, written from its training record: every figure in it was measured by that run."""

from __future__ import annotations

from typing import Any

from tpe_core.demo.recipe import SMALL, Recipe

__all__ = ["model_card"]


def model_card(record: dict[str, Any]) -> str:
    """Markdown: data, licences, recipe, loss, and what the run showed of its own dynamics."""
    recipe, halfway, versions = record["recipe"], record["halfway_step"], record["versions"]
    seen = recipe["steps"] * recipe["batch_size"] * recipe["context"]
    last = record["checkpoints"][-1]
    words = ["--small"] if recipe.get("documents") else []
    if recipe["steps"] != (SMALL if words else Recipe()).steps:
        words.append(f"--steps {recipe['steps']}")
    command = " ".join(["tpe demo train", *words, "--out DIR"])
    return f"""# The bundled model

A GPT-2-architecture language model of {record["parameters"] / 1e6:.1f} M parameters ({recipe["n_layer"]} layers,
width {recipe["hidden_size"]}, {recipe["vocab_size"]:,} BPE tokens, context {recipe["context"]}, tied embeddings),
trained by `tpe demo train` so that everyone has a real, trained output embedding to look at without a download.
It is a specimen to inspect, not a model to write with.

## Data

Docstrings of the Python standard library and of the packages that tpe needs (torch, transformers, numpy, scipy,
scikit-learn, statsmodels, pandas, sympy, networkx, textual and others, listed in `tpe_core/demo/corpus.py`), read with
`ast` from an installation and deduplicated: {record["training_tokens"]:,} training tokens. A file is held out where its
path's hash says so (one in twenty; {record["held_out_tokens"]:,} tokens); a docstring that also occurs in a held-out
file is not trained on. These packages are published under the PSF, BSD, MIT and Apache 2.0 licences; none of their text
is distributed here. The weights are under this project's MIT licence.

## Recipe

{recipe["steps"]:,} steps of {recipe["batch_size"]} x {recipe["context"]} tokens ({seen:,} tokens seen),
seed {recipe["seed"]}; Muon at {recipe["matrix_lr"]} for the blocks' matrices, AdamW at {recipe["other_lr"]} for the
rest, weight decay {recipe["weight_decay"]}, {recipe["warmup_steps"]} steps of warm-up, linear cool-down over the last
{recipe["cooldown_share"]:.0%}; bfloat16 autocast on a CPU with two cores, {record["seconds"] / 60:.0f} minutes.
Python {versions["python"]}, torch {versions["torch"]}, transformers {versions["transformers"]}.
`{command}` does it again.

## Measured

- Held-out loss **{record["held_out_loss"]:.3f} nats** per token over {record["held_out_positions"]:,} positions,
  with the float16 weights shipped here.
- Its own training (`training.json`): regressing -log training frequency on the embedding's rows, adjusted R2 ends at
  {last["r2_adjusted"]:.3f} and passes half of that at step {halfway["encoding"]}; the parameters are half-way to their
  final values at step {halfway["parameters"]}.
- The encoding of its output probabilities: `tpe analyze demo`.
"""
