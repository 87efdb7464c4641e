"""Logit biases asked of servers: llama.cpp's own, and a small one that answers as OpenAI's and vLLM's do."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.core.export.conftest import steered
from tests.helpers.gguf_models import save_gguf
from tpe_core.errors import TpeError
from tpe_core.export import server as server_module
from tpe_core.export.formats import export
from tpe_core.export.llama_cpp import is_installed
from tpe_core.export.plan import Exported, Request
from tpe_core.export.server import answers_of_server, check_server_url, find_server
from tpe_core.models.loading import load_model
from tpe_core.models.model import LanguageModel
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_tui.cli.main import main

LLAMA = """
import sys, time, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel, p.warmup, p.n_gpu_layers, p.port = sys.argv[1], 256, 1, False, 0, 0
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(p)
print("at", server.listening_address, flush=True)
time.sleep(600)
"""
PROMPTS = ("The capital of France is", "value returns the")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_model(RunOptions(model=str(save_gguf(tmp_path_factory.mktemp("model"), "F16").file)))


@dataclass
class Fake:
    """A server's answers: `kind` of its owner, `legacy` or newer logprobs, whether biases are seen in them."""

    model: LanguageModel
    owner: str = "openai"
    sees_biases: bool = True
    most: int = 20
    asked: list[dict[str, Any]] = field(default_factory=list)
    broken: bytes | None = None

    def reply(self, path: str, body: dict[str, Any] | None) -> tuple[int, bytes]:
        if self.broken is not None:
            return 200, self.broken
        if path == "/v1/models":
            return 200, json.dumps({"data": [{"id": "tiny", "owned_by": self.owner}]}).encode()
        assert path == "/v1/completions"
        assert body is not None
        self.asked.append(body)
        if body["logprobs"] > self.most:
            return 400, json.dumps({"error": f"at most {self.most} logprobs"}).encode()
        z = self.model.logits(torch.tensor([body["prompt"]]))[0, -1].double()
        if self.sees_biases:
            for token_id, bias in body.get("logit_bias", {}).items():
                z[int(token_id)] += bias
        top = z.log_softmax(-1).topk(body["logprobs"])
        tokenizer = self.model.tokenizer
        by_id = body.get("return_tokens_as_token_ids")
        named = {
            (f"token_id:{i}" if by_id else tokenizer.decode([i])): round(float(v), 5)
            for v, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        }
        return 200, json.dumps({"choices": [{"text": "", "logprobs": {"top_logprobs": [named]}}]}).encode()


@contextmanager
def serving(fake: Fake) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: dict[str, Any] | None) -> None:
            code, data = fake.reply(self.path, body)
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def exported(model: LanguageModel, out: Path, url: str) -> Exported:
    edit = steered(model.head.hidden_size, range(30, 60), ("bias",))
    request = Request(model=model, edit=edit, out=out, settings={"server": url})
    result = run(export(request, "logit-bias"))
    assert isinstance(result, Exported)
    return result


@pytest.mark.parametrize("owner", ["openai", "vllm"])
def test_a_server_that_applies_the_biases_gives_the_predicted_probabilities(
    model: LanguageModel, owner: str, tmp_path: Path
) -> None:
    fake = Fake(model, owner)
    with serving(fake) as url:
        result = exported(model, tmp_path / "bias.json", f"{url}/v1/")
    comparison = result.comparison
    assert comparison is not None
    assert comparison.runtime == f"the {'vLLM ' * (owner == 'vllm')}server at {url}"
    assert len(comparison.edited[0].tokens) >= 8  # half a character is left out where only texts are given
    assert comparison.edited_difference < 1e-4  # five digits of a logarithm
    assert comparison.unedited_difference < 1e-4
    written = json.loads((tmp_path / "bias.json").read_text())["logit_bias"]
    assert [body.get("logit_bias", {}) for body in fake.asked] == [written] * 3 + [{}] * 3
    assert ("return_tokens_as_token_ids" in fake.asked[0]) == (owner == "vllm")


def test_a_server_that_shows_no_biases_is_told_from_one_that_gives_others(model: LanguageModel, tmp_path: Path) -> None:
    with serving(Fake(model, "vllm", sees_biases=False)) as url:
        result = exported(model, tmp_path / "bias.json", url)
    assert "gave the same with and without the biases" in result.checked
    assert "--logprobs-mode processed_logprobs" in result.checked
    assert (tmp_path / "bias.json").exists()


def test_fewer_probabilities_are_asked_for_where_a_server_refuses(model: LanguageModel) -> None:
    fake = Fake(model, most=5)
    with serving(fake) as url:
        (answer,) = run(answers_of_server(model, find_server(url), PROMPTS[:1], {}))
    assert [body["logprobs"] for body in fake.asked] == [20, 5]
    reported = np.flatnonzero(np.isfinite(answer))
    assert 1 <= len(reported) <= 5
    assert answer[reported] == pytest.approx(truth(model, PROMPTS[0], {})[reported], rel=1e-4)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:8000", "is no address: give one like"),
        ("ftp://host", "is no address: give one like"),
        ("http://", "is no address: give one like"),
        ("http://host:port", "is no address"),
    ],
)
def test_what_is_no_address_is_refused_before_a_model_is_loaded(
    url: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(TpeError, match=why):
        check_server_url(url)
    words = ["bake", str(tmp_path / "none.json"), "absent", "--to", "logit-bias", "--out", str(tmp_path / "b.json")]
    assert main([*words, "--server", url]) == 1
    assert why in capsys.readouterr().err


def test_a_server_goes_with_biases_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["bake", str(tmp_path / "none.json"), "absent", "--out", str(tmp_path / "b"), "--server", "http://host"]
    assert main([*words, "--to", "gguf"]) == 2
    assert "--server is for --to logit-bias: leave it out" in " ".join(capsys.readouterr().err.split())


def test_a_server_that_is_not_there_or_answers_otherwise_is_one_sentence(
    model: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Fake(model)
    with serving(fake) as url:
        for broken, why in (
            (b"<html>", r"answers no JSON object: give the address of an OpenAI-style server\."),
            (b"[1]", r"answers no JSON object"),
            (b'{"data": []}', r"names no model under /v1/models: start it with one\."),
        ):
            fake.broken = broken
            with pytest.raises(TpeError, match=why):
                exported(model, tmp_path / "bias.json", url)
        fake.broken = None
        server = find_server(url)
        fake.broken = b'{"choices": [{"text": "x", "logprobs": null}]}'
        with pytest.raises(TpeError, match=r"reports no probabilities of tokens \(logprobs\) that can be read"):
            run(answers_of_server(model, server, PROMPTS, {}))
        fake.broken, fake.most = None, 0
        with pytest.raises(TpeError, match=r"answers 400 \(.*at most 0 logprobs.*\): check the address"):
            run(answers_of_server(model, server, PROMPTS, {}))
    with pytest.raises(TpeError, match=r"cannot be reached \(.*\): check the address, and that the server runs\."):
        exported(model, tmp_path / "bias.json", url)
    monkeypatch.setattr(server_module, "TIMEOUT", 0.05)

    def late(*_: object) -> tuple[int, bytes]:
        time.sleep(0.3)
        return 200, b"{}"

    monkeypatch.setattr(fake, "reply", late)
    with serving(fake) as url, pytest.raises(TpeError, match=r"gave no answer in 0 seconds: try again"):
        exported(model, tmp_path / "bias.json", url)
    assert list(tmp_path.iterdir()) == []


def truth(model: LanguageModel, prompt: str, biases: dict[int, float]) -> np.ndarray[Any, Any]:
    ids = model.sampling.prompt(prompt, model.context)[0]["input_ids"]
    z = model.logits(ids)[0, -1].double()
    for token_id, bias in biases.items():
        z[token_id] += bias
    p: np.ndarray[Any, Any] = z.softmax(-1).numpy()
    return p


@pytest.fixture(scope="module")
def llama_server(model: LanguageModel) -> Iterator[Callable[[], str]]:
    assert model.gguf is not None
    process = subprocess.Popen(
        [sys.executable, "-c", LLAMA, str(model.gguf.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("at "):
            break
    yield lambda: line.split()[1]
    process.kill()
    process.wait()


@pytest.mark.skipif(not is_installed(), reason="xllamacpp is not installed")
def test_llama_cpps_server_gives_its_top_20_as_predicted(
    model: LanguageModel, llama_server: Callable[[], str], tmp_path: Path
) -> None:
    server = find_server(llama_server())
    assert server.owner == "llamacpp"
    biases = {20: 2.0, 200: -1.0, 45: 0.5}
    for prompt, answer in zip(PROMPTS, run(answers_of_server(model, server, PROMPTS, biases)), strict=True):
        wanted = truth(model, prompt, biases)
        top = np.argsort(-np.nan_to_num(answer))[:20]
        assert np.isfinite(answer[top]).all()
        assert np.abs(answer[top] - wanted[top]).max() < 1e-3  # its float16 arithmetic
    result = exported(model, tmp_path / "bias.json", llama_server())
    assert result.comparison is not None
    assert result.comparison.runtime.startswith("the llama.cpp server at http://127.0.0.1:")
    assert result.comparison.ratio is not None
    assert result.comparison.ratio <= 1.5
    assert "gave the same" not in result.checked
