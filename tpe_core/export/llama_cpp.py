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
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, parse_json
from tpe_core.printable import fit, printable_token
from tpe_core.progress import Progress, Steps

__all__ = ["REPORTED", "Answer", "ask_llama_cpp", "is_installed", "tokens_in_llama_cpp"]

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
    document = yield from _run(
        {
            "model": os.path.abspath(model),
            "prompts": [list(prompt) for prompt in prompts],
            "threads": threads,
            "plain_id": plain_id,
            "biases": None if biases is None else {str(token): value for token, value in biases.items()},
        }
    )
    answers = [{int(token): value for token, value in answer.items()} for answer in document["answers"]]
    return document["version"], answers


def tokens_in_llama_cpp(model: Path, texts: Sequence[str], *, threads: int = 1) -> Steps[list[list[int]]]:
    """Token ids of every text by a GGUF file's own tokenizer, with what it puts around a text: a job.

    Raises as `ask_llama_cpp` does.
    """
    document = yield from _run(
        {"model": os.path.abspath(model), "prompts": [], "threads": threads, "texts": list(texts)}
    )
    tokens: list[list[int]] = document["tokens"]
    return tokens


def _run(request: Mapping[str, Any]) -> Steps[dict[str, Any]]:
    """What the process answers to a request that names a model."""
    with tempfile.TemporaryDirectory(prefix="tpe-llama-") as folder:
        out, log = Path(folder, "answers.json"), Path(folder, "log")
        with log.open("wb") as stream:
            process = subprocess.Popen(  # noqa: S603 - this module, in this interpreter
                [sys.executable, "-m", __name__], stdin=subprocess.PIPE, stdout=stream, stderr=stream
            )
        try:
            assert process.stdin is not None  # noqa: S101 - it is a pipe
            with suppress(BrokenPipeError):  # it ended at once: its log says why
                process.stdin.write(json_text({**request, "out": str(out)}).encode())
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
        document: dict[str, Any] = parse_json(out.read_bytes())
    return document


def _answer() -> None:
    """Load the file that standard input names, and write what it answers."""
    import xllamacpp

    request = parse_json(sys.stdin.buffer.read())
    longest = max((len(prompt) for prompt in request["prompts"]), default=0)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = request["model"]
    parameters.n_ctx, parameters.n_parallel, parameters.warmup = max(256, longest + 32), 1, False
    parameters.n_gpu_layers, parameters.port = 0, 0  # any port that is free
    for cores in (parameters.cpuparams, parameters.cpuparams_batch):
        cores.n_threads = request["threads"]
    server = xllamacpp.Server(parameters)
    answers = []
    for prompt in request["prompts"]:
        question = {"prompt": prompt, "n_predict": 1, "n_probs": REPORTED, "cache_prompt": False}
        if request["biases"] is None:
            question["logit_bias"] = {str(request["plain_id"]): CERTAIN}
            answers.append(_reported(server.handle_completions(question)))
        else:
            answers.append(_biased(server, question, request["biases"]))
    tokens = [_tokens(server.listening_address, text) for text in request.get("texts", ())]
    version = getattr(xllamacpp, "__version__", "")
    Path(request["out"]).write_text(json_text({"version": version, "answers": answers, "tokens": tokens}))
    sys.stdout.flush()
    os._exit(0)  # the server's threads need no goodbye


def _tokens(address: str, text: str) -> list[int]:
    """Token ids of a text by the server at `address`."""
    body = json_text({"content": text, "add_special": True, "parse_special": True}).encode()
    request = urllib.request.Request(  # noqa: S310 - the server of this very process
        f"{address}/tokenize", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=LONGEST) as reply:  # noqa: S310
        ids: list[int] = parse_json(reply.read())["tokens"]
    return ids


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
