"""Next-token probabilities in llama.cpp, through the package xllamacpp, in a process of its own.

llama.cpp ends its process where a file is broken, and writes its log to standard error; neither is let near the
caller. Run as a module it is that process: a JSON document on standard input, one in the file that it names.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, parse_json
from tpe_core.printable import fit, printable_token
from tpe_core.progress import Progress, Steps

__all__ = ["REPORTED", "Answer", "ask_llama_cpp", "is_installed"]

REPORTED = 200
"""Tokens of which llama.cpp is asked the probability, the most probable ones."""

CERTAIN = 1000.0  # a logit's bias by which a token is drawn
TRIES = 100  # draws of half a character in a row
WAIT = 0.05  # seconds between two looks at the process
LONGEST = 600.0  # seconds that it may take

Answer = dict[int, float]
"""Probability by token id, of the most probable tokens after a prompt."""


def is_installed() -> bool:
    """Whether llama.cpp is at hand."""
    return importlib.util.find_spec("xllamacpp") is not None


def ask_llama_cpp(
    model: Path,
    prompts: Sequence[Sequence[int]],
    *,
    plain_id: int,
    threads: int = 1,
    biases: Mapping[int, float] | None = None,
) -> Steps[tuple[str, list[Answer]]]:
    """(version of xllamacpp, an `Answer` for each prompt of token ids) of a GGUF file: a job.

    `plain_id` is a token of plain text: llama.cpp reports nothing beside half a character, so it is made to draw that
    one, which changes no probability that it reports. With `biases` by token id the probabilities are those after its
    server's ``logit_bias``. Raises `TpeError` where llama.cpp cannot load the file, or does not answer in ten minutes.
    """
    with tempfile.TemporaryDirectory(prefix="tpe-llama-") as folder:
        out, log = Path(folder, "answers.json"), Path(folder, "log")
        asked = {
            "model": os.path.abspath(model),
            "prompts": [list(prompt) for prompt in prompts],
            "threads": threads,
            "plain_id": plain_id,
            "biases": None if biases is None else {str(token): value for token, value in biases.items()},
            "out": str(out),
        }
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603 - this module, in this interpreter
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=stream, stderr=stream
            )
        try:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            with suppress(BrokenPipeError):  # it ended at once: its log says why
                process.stdin.write(json_text(asked).encode())
                process.stdin.close()
            begun = time.monotonic()
            while process.poll() is None:
                yield Progress("ask llama.cpp", 0)
                time.sleep(WAIT)
                if time.monotonic() - begun > LONGEST:
                    raise TpeError(f"llama.cpp gave no answer in {LONGEST:.0f} seconds: try a smaller model.")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
        if process.returncode != 0 or not out.is_file():
            said = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
            why = next((line for line in said if "error" in line.lower()), said[-1] if said else "no reason given")
            raise TpeError(f"llama.cpp cannot run the file ({fit(printable_token(why.strip()), 160)}).")
        document = parse_json(out.read_bytes())
    answers = [{int(token): value for token, value in answer.items()} for answer in document["answers"]]
    return document["version"], answers


def _answer() -> None:
    """Load the file that standard input names, and write what it answers."""
    import xllamacpp

    asked = parse_json(sys.stdin.buffer.read())
    longest = max(len(prompt) for prompt in asked["prompts"])
    parameters = xllamacpp.CommonParams()
    parameters.model.path = asked["model"]
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = max(256, longest + 32), 1, False
    parameters.n_gpu_layers = 0
    for cores in (parameters.cpuparams, parameters.cpuparams_batch):
        cores.n_threads = asked["threads"]
    server = xllamacpp.Server(parameters)
    answers = []
    for prompt in asked["prompts"]:
        request = {"prompt": prompt, "n_predict": 1, "n_probs": REPORTED, "cache_prompt": False}
        if asked["biases"] is None:
            request["logit_bias"] = {str(asked["plain_id"]): CERTAIN}
            answers.append(_reported(server.handle_completions(request)))
        else:
            answers.append(_biased(server, request, asked["biases"]))
    version = getattr(xllamacpp, "__version__", "")
    Path(asked["out"]).write_text(json_text({"version": version, "answers": answers}))
    sys.stdout.flush()
    os._exit(0)  # the server's threads need no goodbye


def _reported(reply: Any) -> Answer:
    """The probabilities before any sampling in a reply; empty where it drew half a character."""
    drawn = reply["choices"][0]["logprobs"]
    return (
        {} if drawn is None else {each["id"]: math.exp(each["logprob"]) for each in drawn["content"][0]["top_logprobs"]}
    )


def _biased(server: Any, request: dict[str, Any], biases: dict[str, float]) -> Answer:
    """The probabilities after the biases, asked until whole characters are drawn."""
    own = {"logit_bias": biases, "post_sampling_probs": True, "samplers": ["temperature"], "temperature": 1.0}
    for seed in range(TRIES):
        drawn = server.handle_completions({**request, **own, "seed": seed})["choices"][0]["logprobs"]
        if drawn is not None:
            return {each["id"]: each["prob"] for each in drawn["content"][0]["top_probs"]}
    return {}


if __name__ == "__main__":
    _answer()
