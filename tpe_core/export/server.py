"""Next-token probabilities of a server that speaks OpenAI's protocol, with a ``logit_bias`` and without.

``/v1/completions`` with one new token and its ``logprobs``. llama.cpp and vLLM are told apart by what ``/v1/models``
says, and asked for what goes beyond the protocol: probabilities after the biases, and token ids instead of texts.
"""

from __future__ import annotations

import http.client
import math
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tpe_core.errors import TpeError
from tpe_core.json_text import json_text, parse_json
from tpe_core.models.model import LanguageModel
from tpe_core.printable import fit, printable_token
from tpe_core.progress import Progress, Steps

__all__ = ["Server", "answers_of_server", "check_server_url", "find_server"]

COUNTS = (20, 5)
"""Tokens whose probability is asked for: more than 20 or 5 is what servers refuse."""

TIMEOUT = 60.0  # seconds that a reply may take
LONGEST = 8_000_000  # bytes of a reply
TRIES = 100  # draws of half a character in a row, with which llama.cpp reports nothing
TOKEN_ID = "token_id:"  # noqa: S105 - vLLM's prefix of a number in place of a token's text

Floats = NDArray[np.float64]


def check_server_url(url: str) -> str:
    """The address of a server without a path of the protocol. Raises `TpeError` where it is none."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port  # which is only looked at here
    except ValueError as error:
        raise TpeError(f"--server {url!r} is no address ({error}): give one like http://localhost:8000.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TpeError(f"--server {url!r} is no address: give one like http://localhost:8000.")
    path = parts.path.rstrip("/").removesuffix("/completions").removesuffix("/v1")
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, path, "", ""))


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that answered: its address, the first model that it serves, and who it says it is."""

    url: str
    model: str
    owner: str

    @property
    def name(self) -> str:
        """As in sentences."""
        kind = {"llamacpp": "llama.cpp", "vllm": "vLLM"}.get(self.owner, "")
        return f"the {kind} server at {self.url}" if kind else f"the server at {self.url}"

    @cached_property
    def beyond(self) -> dict[str, Any]:
        """Fields of a request that its protocol lacks and this server knows."""
        if self.owner == "llamacpp":
            return {"post_sampling_probs": True, "samplers": ["temperature"], "cache_prompt": False}
        return {"return_tokens_as_token_ids": True} if self.owner == "vllm" else {}


def find_server(url: str) -> Server:
    """Ask a server what it serves. Raises `TpeError` where it cannot be reached or serves nothing."""
    address = check_server_url(url)
    entries = _reply(f"{address}/v1/models").get("data")
    first = entries[0] if isinstance(entries, list) and entries else None
    if not isinstance(first, dict) or not isinstance(first.get("id"), str):
        raise TpeError(f"the server at {address} names no model under /v1/models: start it with one.")
    return Server(url=address, model=first["id"], owner=str(first.get("owned_by", "")))


def answers_of_server(
    model: LanguageModel, server: Server, prompts: Sequence[str], biases: Mapping[int, float]
) -> Steps[list[Floats]]:
    """[V_all] probabilities after each prompt by a server of `model`'s tokens: a job.

    Tokens that it does not report have NaN. Raises `TpeError` where it does not answer, or not in the protocol.
    """
    ids_of = _ids_by_text(model)
    dense = []
    for done, prompt in enumerate(prompts):
        yield Progress("ask the server", done, len(prompts))
        ids = model.sampling.prompt(prompt, model.context)[0]["input_ids"][0].tolist()
        values = np.full(model.head.total_rows, np.nan)
        for token_id, p in _most_probable(server, ids, biases, ids_of).items():
            if token_id < len(values):
                values[token_id] = p
        dense.append(values)
    return dense


def _most_probable(
    server: Server, prompt: list[int], biases: Mapping[int, float], ids_of: Mapping[str, int]
) -> dict[int, float]:
    """Probability by token id of the most probable tokens after a prompt."""
    request: dict[str, Any] = {"model": server.model, "prompt": prompt, "max_tokens": 1, "temperature": 1.0}
    request |= server.beyond
    if biases:
        request["logit_bias"] = {str(token_id): value for token_id, value in biases.items()}
    for count in COUNTS:
        for seed in range(TRIES):
            body = {**request, "logprobs": count, "seed": seed}
            try:
                reply = _reply(f"{server.url}/v1/completions", body)
            except _RefusedError as refused:
                if refused.code == 400 and count != COUNTS[-1]:
                    break  # fewer, then
                raise
            probabilities = _reported(reply, ids_of)
            if probabilities:
                return probabilities
            if server.owner != "llamacpp":
                break
    raise TpeError(
        f"{server.name} reports no probabilities of tokens (logprobs) that can be read: use one that does, or leave "
        "out --server."
    )


def _reported(reply: Mapping[str, Any], ids_of: Mapping[str, int]) -> dict[int, float]:
    """What a reply says of the first new token; empty where that is nothing."""
    try:
        logprobs = reply["choices"][0]["logprobs"]
        if not logprobs:
            return {}
        if "content" in logprobs:
            first = logprobs["content"][0]
            entries = first.get("top_probs") or first["top_logprobs"]
            pairs = [
                (each.get("id", each["token"]), float(each["prob"]) if "prob" in each else math.exp(each["logprob"]))
                for each in entries
            ]
        else:
            pairs = [(text, math.exp(value)) for text, value in logprobs["top_logprobs"][0].items()]
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
        return {}
    probabilities = {}
    for name, p in pairs:
        text = str(name)
        if isinstance(name, int):
            token_id: int | None = name
        elif text.startswith(TOKEN_ID) and text[len(TOKEN_ID) :].isdecimal():
            token_id = int(text[len(TOKEN_ID) :])
        else:
            token_id = ids_of.get(text)
        if token_id is not None and token_id >= 0:
            probabilities[token_id] = p
    return probabilities


def _ids_by_text(model: LanguageModel) -> dict[str, int]:
    """Token ids by the text that each is alone; without those of the same text."""
    texts = model.tokenizer.batch_decode([[token_id] for token_id in range(model.head.vocab_rows)])
    counts = Counter(texts)
    return {text: token_id for token_id, text in enumerate(texts) if counts[text] == 1}


class _RefusedError(TpeError):
    """An HTTP error, with its code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.code = code


def _reply(url: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The JSON object that a server answers. Raises `TpeError` in one sentence."""
    data = None if body is None else json_text(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - checked before
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as reply:  # noqa: S310
            document = parse_json(reply.read(LONGEST))
    except urllib.error.HTTPError as error:
        why = fit(printable_token(error.read(2000).decode("utf-8", "replace").strip()), 120)
        raise _RefusedError(
            f"{url} answers {error.code} ({why or error.reason}): check the address, and that the server is ready.",
            error.code,
        ) from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or error.reason
        raise TpeError(f"{url} cannot be reached ({reason}): check the address, and that the server runs.") from None
    except TimeoutError:
        raise TpeError(f"{url} gave no answer in {TIMEOUT:.0f} seconds: try again when the server is idle.") from None
    except (OSError, http.client.HTTPException) as error:
        raise TpeError(f"{url} broke off ({str(error) or type(error).__name__}): try again.") from None
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise TpeError(f"{url} answers no JSON object: give the address of an OpenAI-style server.")
    return document
