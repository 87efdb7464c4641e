"""`tpe generate`: its texts are the engine's, its JSON and files hold them, bad input is one sentence."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.helpers.manifests import make
from tests.helpers.tiny_models import CONTEXT, WIDTH, save_tiny
from tpe_core.corpus.corpus import tokenizer_fingerprint
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.edits.intervention import Intervention
from tpe_core.generation.decoding import Decoding
from tpe_core.generation.paired import Continuation, GeneratedToken, PairedGeneration, PairRequest
from tpe_core.generation.paired_generation import pair_texts
from tpe_core.models.loading import load_model
from tpe_core.options import RunOptions
from tpe_core.progress import run
from tpe_tui.cli.generate_tables import print_pair
from tpe_tui.cli.main import main
from tpe_tui.generation.text import difference, plain_lines
from tpe_tui.token_text import DIFFERS, END

PROMPT = "the value of"
Files = tuple[str, Path, Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """(model folder, an edit of it, an edit of another head)"""
    from tpe_core.manifest.manifest import write_manifest

    folder = tmp_path_factory.mktemp("generate")
    path = str(save_tiny(folder / "model"))
    model = load_model(RunOptions(model=path))
    some = make(Intervention((0, 5, 9)), width=WIDTH)
    fits = {"head_sha256": model.head.sha256, "vocab_rows": model.head.vocab_rows}
    fits["tokenizer_sha256"] = tokenizer_fingerprint(model.tokenizer)
    mine = some.model_copy(update={"made_on": some.made_on.model_copy(update=fits)})
    other = some.model_copy(update={"made_on": some.made_on.model_copy(update=fits | {"head_sha256": "0" * 64})})
    write_manifest(folder / "mask.json", mine, {})
    write_manifest(folder / "other.json", other, {})
    return path, folder / "mask.json", folder / "other.json"


def engine(path: str, decoding: Decoding, dims: tuple[int, ...]) -> PairedGeneration:
    model = load_model(RunOptions(model=path))
    edit = ResolvedEdit(intervention=Intervention(dims), hidden_size=WIDTH, constant=np.zeros(len(dims)))
    return run(pair_texts(model, PairRequest(PROMPT, decoding), lambda: edit))


def test_texts_json_and_files_are_the_engines(files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, mask, _ = files
    words = ["generate", path, "--prompt", PROMPT, "--intervention", str(mask), "--length", "25", "--seed", "4"]
    words += ["--temperature", "0.9", "--top-k", "50", "--top-p", "0.95", "--no-stop"]
    pair = engine(path, Decoding(25, seed=4, temperature=0.9, top_p=0.95, stop=False, top_k=50), (0, 5, 9))
    assert pair.first_difference is not None
    assert main([*words, "--json", "--save", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    about = {"schema": 1, "model": path, "revision": None, "intervention": str(mask)}
    assert document == about | json.loads(json.dumps(pair.to_dict()))
    written = json.loads((tmp_path / "out.json").read_text())
    assert written == document | {"text_sha256": hashlib.sha256((tmp_path / "out.txt").read_bytes()).hexdigest()}
    assert "wrote" in err
    assert main(words) == 0
    out, _ = capsys.readouterr()
    assert out.splitlines() == (tmp_path / "out.txt").read_text().splitlines() == plain_lines(pair, path, WIDTH)
    assert "\x1b" not in out
    assert f"first difference: token {pair.first_difference + 1}," in out
    assert "3 of 16 dimensions pruned (zero)" in out
    assert out.count(DIFFERS) == 2


def test_without_an_edit_and_by_default(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    path = files[0]
    assert main(["generate", path, "--prompt", PROMPT, "--no-stop", "--json"]) == 0
    out, err = capsys.readouterr()
    document = json.loads(out)
    assert "no --intervention is given" in err
    assert document["first_difference"] is None
    assert document["base"]["text"] == document["edited"]["text"]
    length = CONTEXT - len(document["prompt_ids"])
    assert len(document["base"]["tokens"]) == document["decoding"]["length"] == length, "what the context holds"


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["--length", "500"], "500 tokens after a prompt of", 1),
        (["--temperature", "-1"], "a temperature is a finite number of at least 0, not -1.0", 1),
        (["--top-p", "0"], "top-p is a share above 0", 1),
        (["--top-k", "-2"], "--top-k takes a whole number from 0", 2),
        (["--seed", "-1"], "'--seed'", 2),
        (["--length", "0"], "--length", 2),
        (["--intervention", "missing.json"], "missing.json does not exist", 1),
        (["--intervention", "OTHER"], "was made for another head", 1),
        (["--save", "no/such/folder/x"], "make it first", 1),
    ],
)
def test_bad_input_is_one_sentence(
    files: Files, capsys: pytest.CaptureFixture[str], words: list[str], said: str, code: int
) -> None:
    path, _, other = files
    words = [str(other) if word == "OTHER" else word for word in words]
    assert main(["generate", path, "--prompt", PROMPT, *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in " ".join(re.sub(r"[│╭╮╰╯─]", " ", err).split())
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "said"), [(["--intervention", "BROKEN"], "is not JSON"), (["--save", "."], "names no file")]
)
def test_what_no_model_is_needed_for_is_refused_before_one_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    def load(_: object) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr("tpe_core.models.loading.load_steps", load)
    (tmp_path / "broken.json").write_text("{")
    words = [str(tmp_path / "broken.json") if word == "BROKEN" else word for word in words]
    assert main(["generate", "demo", *words, "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


def made(differ: bool = True) -> PairedGeneration:
    base = tuple(GeneratedToken(token_id=i, text=f" word{i}", p=0.6, p_base=0.6, kl=0.0) for i in range(30))
    other = GeneratedToken(token_id=99, text=" other", p=0.001, p_base=0.02, kl=0.4)
    edited = (
        *base[:12],
        *([other] if differ else base[12:13]),
        *base[13:20],
        GeneratedToken(token_id=5, text=" [b]\n", p=0.07, p_base=0.1, kl=0.1),
    )
    return PairedGeneration(
        prompt="say",
        prompt_ids=(1,),
        decoding=Decoding(30),
        base=Continuation(base),
        edited=Continuation(edited if differ else base, differ),
        edits=((0, Intervention()),),
    )


@pytest.mark.parametrize("width", [60, 80, 99, 100, 130, 250])
def test_on_a_terminal_in_columns_or_blocks(width: int) -> None:
    out = io.StringIO()
    print_pair(made(), "tiny", 16, Console(file=out, force_terminal=True, width=width, markup=False, no_color=True))
    text = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    shown = text[text.index("base  (") :]
    assert max(map(len, shown.splitlines())) <= width
    beside = [line for line in shown.splitlines() if "word0" in line and line.count("word0 ") == 2]
    assert bool(beside) == (width >= 100)
    assert shown.count(DIFFERS) == 3, "in both texts and in the legend"
    assert "[b]⏎" in shown
    assert END in shown
    assert "\x1b[1;4m" in out.getvalue(), "an unlikely token is marked without colour too"
    assert not re.search(r"\x1b\[[\d;]*3\dm", out.getvalue())


def test_what_is_the_same_is_printed_once() -> None:
    out = io.StringIO()
    print_pair(made(False), "tiny", 16, Console(file=out, force_terminal=True, width=130, markup=False))
    text = re.sub(r"\x1b\[[\d;]*m", "", out.getvalue())
    assert text.count("word7") == 1
    assert "base and edited alike" in text
    assert difference(made(False)) == "no difference in 30 tokens"
    assert difference(made()) == (
        "first difference: token 13, base ·word12 (60.0%), edited ·other (0.10%, unedited 2.00%)"
    )


def test_the_name_is_a_command(tiny: Callable[..., object], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--help"]) == 0
    assert "--intervention" in capsys.readouterr().out
