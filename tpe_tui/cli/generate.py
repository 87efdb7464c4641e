"""`tpe generate`: a prompt continued by a model and by its edit on the same random numbers, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tpe_core.options import DEMO
from tpe_core.outputs import shown_path
from tpe_tui.cli.console import drive_until_stopped, leave_stopped, load, say
from tpe_tui.cli.options import LOADING, OUTPUT, Chat, Force, Model, refuse_existing, run_options, takes
from tpe_tui.cli.table_output import print_json

if TYPE_CHECKING:
    from tpe_core.edits.edit import ResolvedEdit
    from tpe_core.models.model import LanguageModel

__all__ = ["generate"]

LENGTH = 200  # tokens, where none are asked for and the context has room


@takes(LOADING - {"task"} | {"seed"} | OUTPUT)
def generate(
    context: typer.Context,
    model: Model = DEMO,
    prompt: Annotated[str, typer.Option(help="The text to continue. Default: one that suits the model.")] = "",
    chat: Chat = False,
    intervention: Annotated[
        Path | None, typer.Option(help="A saved edit (JSON), as the inspector and --save of other commands write it.")
    ] = None,
    length: Annotated[
        int | None, typer.Option(min=1, help=f"At most so many tokens. Default: {LENGTH}, or what the context holds.")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 always takes the most probable token.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from so many most probable tokens; 0: from all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Draw from the most probable tokens that make up this share.")] = 1.0,
    no_stop: Annotated[bool, typer.Option("--no-stop", help="Go on after an end token.")] = False,
    save: Annotated[Path | None, typer.Option(help="Also write NAME.json and NAME.txt.")] = None,
    force: Force = False,
    *,
    seed: int,
    json_: bool,
) -> None:
    """Continue a prompt twice and print both texts."""
    from tpe_core.generation.decoding import Decoding

    decoding = Decoding(
        length or LENGTH, seed=seed, temperature=temperature, top_p=top_p, stop=not no_stop, top_k=top_k
    )
    from tpe_core.generation.paired import PairedGeneration, PairRequest, pair_files, save_pair
    from tpe_core.manifest.manifest import read_edit

    if save is not None:
        refuse_existing(lambda: pair_files(save, replace=force))
    if intervention is not None:
        read_edit(intervention)  # what can be refused before the model is loaded

    from tpe_core.generation.generation import check_causal, starting_prompt
    from tpe_core.generation.paired_generation import fitting, pair_texts
    from tpe_core.models.chat import chat_prompt
    from tpe_tui.cli.generate_tables import print_pair
    from tpe_tui.generation.text import plain_lines

    loaded = load(run_options(context), reads_text=False)
    check_causal(loaded)
    edit = _edit(loaded, intervention)
    if intervention is None:
        say("no --intervention is given, so both texts are the base's.")
    prompt = prompt or starting_prompt(loaded)
    request = PairRequest(chat_prompt(loaded.tokenizer, prompt, loaded.name) if chat else prompt, decoding)
    steps = pair_texts(loaded, fitting(loaded, request) if length is None else request, lambda: edit)
    pair, stopped = drive_until_stopped(steps, lambda partial: isinstance(partial, PairedGeneration))
    if pair is None:
        leave_stopped("no token was drawn yet.", save)
    made_with = None if intervention is None else str(intervention)
    document = {"schema": 1, "model": loaded.name, "revision": loaded.revision, "intervention": made_with}
    document |= pair.to_dict() | ({"stopped": True} if stopped else {})
    width = loaded.head.hidden_size
    if json_:
        print_json(document)
    else:
        print_pair(pair, loaded.name, width)
    if stopped:
        leave_stopped(f"the {pair.steps} tokens that were drawn are printed.", save)
    if save is not None:
        written = save_pair(save, document, plain_lines(pair, loaded.name, width), replace=force)
        say(f"wrote {shown_path(written[0])} and {written[1].name}.")


def _edit(model: LanguageModel, path: Path | None) -> ResolvedEdit:
    """The edit of a file that was made for this head; nothing where there is none."""
    import numpy as np

    from tpe_core.edits.edit import ResolvedEdit
    from tpe_core.edits.intervention import Intervention
    from tpe_core.manifest.manifest import check_model, read_edit

    if path is None:
        return ResolvedEdit(intervention=Intervention(), hidden_size=model.head.hidden_size, constant=np.zeros(0))
    manifest, edit = read_edit(path)
    check_model(manifest, model)
    return edit
