"""Shell completion, `python -m tpe_tui` and `tpe bake`: the program asked as a shell's script asks it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tpe_tui.cli.completion import complete_model, one_of
from tpe_tui.cli.main import main

COMMANDS = ["inspect", "check", "analyze", "dynamics", "steer", "prune", "generate", "bake", "eval", "transfer", "kl"]
MORE = ["vocabulary", "compare", "report", "atlas", "show", "diff", "schema", "doctor"]
MORE += ["cache", "sessions", "serve", "keys", "train-on", "sparsity"]
SHELLS = ("bash", "zsh", "fish")


def environment(shell: str, line: str) -> dict[str, str]:
    """What the script of a shell sets for a line whose cursor is at its end."""
    asked = {"_TPE_COMPLETE": f"complete_{shell}"}
    if shell == "bash":
        words = line.split(" ")
        return {**asked, "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    return {**asked, "_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}


def values(shell: str, answer: str) -> list[str]:
    """The words that a shell reads from the answer."""
    if shell == "zsh":
        return (
            [] if answer.strip() == "_files" else re.findall(r'^(?:_arguments .*\(\()?"([^"]+)"', answer, re.MULTILINE)
        )
    return [line.split("\t")[0] for line in answer.splitlines() if line]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    def completions(line: str, shell: str = "bash") -> list[str]:
        with monkeypatch.context() as patch:
            patch.setenv("COLUMNS", "80")
            for name, value in environment(shell, line).items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as left:
                main([])
            assert os.environ["COLUMNS"] == "80", "what completing needs stays in it"
        assert left.value.code == 0
        return values(shell, capsys.readouterr().out)

    return completions


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cached models, one cached data set and one cache entry without a config; two folders, one with a model."""
    from huggingface_hub import constants

    hub = tmp_path / "hub"
    for name, file in (
        ("models--gpt2", "config.json"),
        ("models--EleutherAI--pythia-160m", "config.json"),
        ("models--someone--adapter", "adapter.bin"),
        ("datasets--someone--words", "config.json"),
    ):
        (hub / name / "snapshots" / "0123").mkdir(parents=True)
        (hub / name / "snapshots" / "0123" / file).write_text("{}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub))
    work = tmp_path / "work"
    (work / "plain").mkdir(parents=True)
    (work / "pretrained").mkdir()
    (work / "pretrained" / "config.json").write_text("{}")
    (work / "with space").mkdir()
    (work / "with space" / "config.json").write_text("{}")
    monkeypatch.chdir(work)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.usefixtures("models")
def test_where_a_command_may_stand_every_shell_is_offered_commands_and_models(ask, shell: str) -> None:  # type: ignore[no-untyped-def]
    offered = ask("tpe ", shell)
    assert {*COMMANDS, *MORE, "demo", "gpt2", "EleutherAI/pythia-160m", "pretrained"} == set(offered)
    assert len(offered) == len(set(offered))
    assert ask("tpe p", shell) == ["prune", "pretrained"]


@pytest.mark.parametrize("shell", SHELLS)
def test_options_are_offered_one_to_a_line_whatever_the_width(ask, shell: str) -> None:  # type: ignore[no-untyped-def]
    assert ask("tpe analyze --d", shell) == ["--device", "--device-map", "--dtype", "--debug"]


@pytest.mark.parametrize(
    "line", ["tpe --pos", "tpe gpt2 --pos", "tpe demo --pos", "tpe --json --pos", "tpe . --text a --pos"]
)
def test_a_bare_model_has_the_options_of_the_inspector(ask, line: str) -> None:  # type: ignore[no-untyped-def]
    assert ask(line) == ["--positions"]


def test_the_programs_own_options_are_offered_first_alone(ask) -> None:  # type: ignore[no-untyped-def]
    assert ask("tpe --sh") == ["--show-completion"]
    assert ask("tpe gpt2 --sh") == []


@pytest.mark.usefixtures("models")
def test_models_are_offered_where_a_command_takes_one(ask) -> None:  # type: ignore[no-untyped-def]
    assert ask("tpe analyze ") == ["demo", "EleutherAI/pythia-160m", "gpt2", "pretrained"]
    assert ask("tpe bake mask.json g") == ["gpt2"]
    assert ask("tpe show mask.json --on g") == ["gpt2"]
    assert ask("tpe dynamics run g") == ["gpt2"]
    assert ask("tpe analyze Eleu") == ["EleutherAI/pythia-160m"]


def test_the_bundled_model_is_a_model_and_a_group(ask) -> None:  # type: ignore[no-untyped-def]
    assert ask("tpe demo ") == ["train"]
    assert ask("tpe demo train --sm") == ["--small"]
    assert ask("tpe --offline de") == ["demo"]


@pytest.mark.parametrize("line", ["tpe bake ", "tpe show m", "tpe analyze --text ", "tpe demo --positions 5 "])
def test_files_and_numbers_are_left_to_the_shell(ask, line: str) -> None:  # type: ignore[no-untyped-def]
    assert ask(line) == []


def test_pruning_completes_every_order_and_replacement_that_it_takes(ask) -> None:  # type: ignore[no-untyped-def]
    from tpe_core.edits.replacements import REPLACEMENTS
    from tpe_core.pruning.orders import ORDERS

    assert ask("tpe prune --order ") == list(ORDERS)
    assert ask("tpe prune --replace ") == list(REPLACEMENTS)


def test_few_words_are_completed_also_after_a_comma(ask) -> None:  # type: ignore[no-untyped-def]
    assert ask("tpe gpt2 --dtype ") == ["float32", "bfloat16", "float16"]
    assert ask("tpe steer --method min-norm,t") == ["min-norm,top-k"]
    assert one_of("a", "b")("a,") == ["a,a", "a,b"]


@pytest.mark.usefixtures("models")
def test_a_folder_is_offered_below_the_path_that_was_typed(tmp_path: Path) -> None:
    assert complete_model(f"{tmp_path}/work/p") == [(f"{tmp_path}/work/pretrained", "a local model")]
    assert complete_model("./p") == [("./pretrained", "a local model")]
    assert complete_model("nowhere/") == complete_model("with") == complete_model("plain") == []


def test_completing_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom tpe_tui.cli.main import main\ntry: main([])\nexcept SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'numpy', 'textual'} & set(sys.modules)), file=sys.stderr)"
    )
    given = {**os.environ, **environment("bash", "tpe analyze ")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=given, check=True)
    assert "demo" in done.stdout.splitlines()
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_every_shell_asks_the_program(
    shell: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_TPE_COMPLETE", f"source_{shell}")
    with pytest.raises(SystemExit) as left:
        main([])
    assert left.value.code == 0
    assert f"_TPE_COMPLETE=complete_{shell}" in capsys.readouterr().out


def test_the_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "tpe_tui", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"tpe \d+\.\d+\.\d+\n", done.stdout)


def test_baking_goes_by_its_former_name_too_which_no_list_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert re.search(r"^  bake ", listed, re.MULTILINE)
    assert not re.search(r"^  apply ", listed, re.MULTILINE)
    messages = []
    for name in ("bake", "apply"):
        assert main([name, str(tmp_path / "none.json"), "demo", "--out", str(tmp_path / "out")]) == 1
        messages.append(capsys.readouterr().err)
    assert messages[0] == messages[1]
    assert "none.json" in messages[0]
