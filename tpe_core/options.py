"""What a run is asked to do: which model, which text, how much of it. Plain values, shared by every front end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

__all__ = ["DEMO", "RunOptions", "several"]

DEMO = "demo"
"""The name of the bundled model."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of `tpe_core.analysis.analyze` and `tpe_core.session.open_session`.

    `text` names files or folders (one alone is taken too), ``-`` for standard input; empty means the built-in text; of
    files of records `text_field` is read (None: the field that their text stands in by all signs). `positions` is how
    many next-token positions detection averages over, `sample` how many of them keep their hidden state. `cache` reads
    and writes stored detections, `refresh` only writes them. `threads` is the number of torch threads (None:
    ``OMP_NUM_THREADS``, else as many as cores are idle while the model loads). `task` says what the model predicts:
    ``causal`` (the next token), ``masked`` (masked tokens) or ``seq2seq`` (the decoder's next token); None takes it
    from the checkpoint. `device_map` places a model over several devices (``auto``), `quantize` loads its body in
    ``8bit`` or ``4bit``. `gguf_file` names the GGUF file to load where a folder or hub repository has several.
    `text` may be files of token ids. `vocabulary` names a file with a name for every token id, or is ``ids`` for
    numbers alone: the model is then used without a tokenizer, even where it has one. `adapter` is the folder or hub
    id of a PEFT adapter to put on the model, which a `revision` ``adapter:FOLDER`` names as well.

    Example:
        >>> options = tpe.RunOptions("demo", positions=2000, cache=False)
        >>> options.model, options.sample
        ('demo', 4096)
    """

    model: str = DEMO
    _: KW_ONLY
    revision: str | None = None
    adapter: str | None = None
    device: str | None = None
    dtype: str | None = None
    text: tuple[str, ...] = ()
    text_field: str | None = None
    positions: int = 32768
    sample: int = 4096
    seed: int = 0
    cache: bool = True
    refresh: bool = False
    offline: bool = False
    trust_remote_code: bool = False
    threads: int | None = None
    task: str | None = None
    device_map: str | None = None
    quantize: str | None = None
    gguf_file: str | None = None
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", several(self.text))


def several(names: str | Path | Iterable[str | Path]) -> tuple[str, ...]:
    """The names, or the one that was given alone: its characters are no names.

    Example:
        >>> from tpe_core.options import several
        >>> several("notes.txt"), several(["a.txt", "b.txt"])
        (('notes.txt',), ('a.txt', 'b.txt'))
    """
    return (str(names),) if isinstance(names, str | Path) else tuple(map(str, names))
