"""Loading a model: from the hub, a revision, a local folder or the bundled weights, onto one device or several.

What can go wrong is said in one sentence, before anything large is read where that can be; `trust_remote_code` is
off unless asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from torch import nn

from tpe_core.corpus.id_tokenizer import id_tokenizer
from tpe_core.corpus.kinds import are_ids
from tpe_core.corpus.token_ids import vocabulary_rows
from tpe_core.errors import ModelError, TpeError
from tpe_core.models.adapters import (
    Adapter,
    base_options,
    find_adapter,
    no_base,
    put_on,
    read_adapter,
    with_adapter_apart,
)
from tpe_core.models.footprint import Footprint, available_bytes, estimate
from tpe_core.models.gguf_files import (
    GgufFile,
    check_header,
    fit_config,
    gguf_file,
    loading_options,
    local_gguf,
    make_plain,
)
from tpe_core.models.gguf_header import GgufHeader
from tpe_core.models.gguf_reading import GgufReading
from tpe_core.models.head import Task
from tpe_core.models.hub import Source, explain, fetch, is_adapter, missing_weights, weight_names
from tpe_core.models.model import LanguageModel
from tpe_core.models.model_files import adapter_of, check_files, check_shapes, tokenizer_files
from tpe_core.models.placement import device_of, dtype_of, placement
from tpe_core.models.probe import open_head
from tpe_core.models.quantised import (
    Quantisation,
    check_leftovers,
    check_method,
    loading_arguments,
    prepare,
    silence,
    without_idle,
)
from tpe_core.models.sampling import decoder_start
from tpe_core.models.tasks import auto_class, task_of
from tpe_core.models.threads import settle_threads, watch_cores
from tpe_core.models.weights_read import told_loading
from tpe_core.options import DEMO, RunOptions
from tpe_core.progress import Progress, Steps, run

__all__ = ["bundled_path", "load_model", "load_steps"]

NO_LIMIT = 2**31  # and more: what tokenizers without one say
DEFAULT_CONTEXT = 2048  # positions, where neither config nor tokenizer names a limit
OR_IDS = (
    "; a model of sequences that are no text is given files of token ids, with --text ids.npy, or --vocabulary ids."
)
NO_ADAPTER = {"subfolder": "none", "local_files_only": True}  # so that transformers puts none on by itself
TASK_NAMES: dict[Task, str] = {
    "causal": "a causal language model",
    "masked": "a masked language model",
    "seq2seq": "an encoder-decoder language model",
}


def bundled_path() -> Path:
    """The folder of the bundled model."""
    return Path(__file__).parents[1] / "demo" / "model"


def load_model(options: RunOptions, *, reads_text: bool = True) -> LanguageModel:
    """Load what `options` names and measure its head: `load_steps`, driven to its end.

    Returns:
        The model with its tokenizer and its measured head. Raises `TpeError` subclasses in one sentence.

    Example:
        >>> tpe.load_model(tpe.RunOptions("demo")).report.supported
        True
    """
    return run(load_steps(options, reads_text=reads_text))


def load_steps(options: RunOptions, *, reads_text: bool = True) -> Steps[LanguageModel]:
    """Load what `options` names and measure its head: a job that returns a `LanguageModel`.

    Its stages are "look up the model" and "download" (bytes; closing the job there keeps what has arrived) for a
    model of the hub, and "load model", which tells the memory it needs. Raises `ModelError` in one sentence where the
    model cannot be found or loaded, or where its weights alone exceed the memory; an unsupported head is not an error
    here but stands in `LanguageModel.report`, and `LanguageModel.head` raises. A model without a tokenizer is loaded
    where `options.text` is token ids, or no text is to be read (`reads_text`).
    """
    yield Progress("load model", 0)
    _quiet()
    import transformers

    since = watch_cores(options.threads)
    device = device_of(options)
    dtype = dtype_of(options, device)
    placed = placement(options, device, dtype)
    asked, options, source, adapter = yield from _found(options)
    common: dict[str, Any] = {
        "revision": source.revision,
        "trust_remote_code": options.trust_remote_code,
        "local_files_only": source.local_only,
    }
    header, weights = _checked(source, options.model)
    if header is not None:
        common["gguf_file"] = source.gguf
        placed |= loading_options(header, dtype, options)
        dtype = placed["dtype"]
    quantisation, reading = None, nullcontext if header is None else GgufReading().shared
    try:
        with reading():
            config = transformers.AutoConfig.from_pretrained(source.name, **common)
        if header is not None:
            fit_config(config, header)
        quantisation = None if header is not None else check_method(config, options, placed.get("device_map"))
        placed |= loading_arguments(config, quantisation, device)
        task = task_of(config, options.task, options.model)
        memory = estimate(
            config,
            None if quantisation is not None and quantisation.unpacked else source.folder,
            dtype,
            task,
            available_bytes(device),
            quantize=options.quantize,
            shapes=None if header is None else [tensor.shape for tensor in header.tensors],
        )
        if options.device_map is None and options.quantize is None:
            memory.check(options.model)
        yield Progress("load model", 0, note=str(memory))
        with told_loading(), reading():
            tokenizer = _tokenizer((adapter and adapter.tokenizer) or source, options, common, config, reads_text)
            hf, info = auto_class(config, task).from_pretrained(
                source.name,
                config=config,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                adapter_kwargs=NO_ADAPTER,
                **placed,
                **common,
            )
        reading = nullcontext  # what is known of the file's lists takes as much memory as a small model
        _check_keys(
            info,
            hf,
            None if header is not None else source.folder,
            weights,
            task=task,
            quantisation=quantisation,
            name=options.model,
        )
        if "device_map" not in placed and device is not None:
            hf = hf.to(device)
        file = yield from _dequantised(hf, header, source, memory, options.cache)
        if adapter is not None:
            hf, adapter = put_on(hf.eval(), adapter, task)
    except TpeError:
        raise
    except Exception as error:  # whatever transformers and the hub raise; the cause chain says which it is
        raise explain(
            error, options, "" if quantisation is None else f"the {quantisation.method} weights of "
        ) from error
    hf = prepare(hf.eval(), quantisation)
    threads = settle_threads(since, str(hf.device))
    yield Progress("measure the head", 0, note="" if threads is None else threads.note)
    context = _context(hf, config, tokenizer)
    head, report = open_head(
        hf, vocabulary_rows(tokenizer), context, task, decoder_start(hf), quantisation=quantisation
    )
    notes = () if header is not None and adapter is None else _notes(source.folder, options.model, adapter)
    notes += () if threads is None or not threads.sentence else (threads.sentence,)
    return LanguageModel(
        name=asked.model,
        revision=adapter.revision(asked.revision) if adapter is not None and asked.adapter else asked.revision,
        hf=hf,
        tokenizer=tokenizer,
        context=context,
        report=report,
        measured_head=head,
        task=task,
        memory=memory,
        gguf=file,
        notes=notes,
        adapter=adapter,
    )


def _checked(source: Source, name: str) -> tuple[GgufHeader | None, list[str]]:
    """(The header of a GGUF file, the names of other weight files), one of them; `name` is what the model is called.

    Raises `ModelError` where a file is missing or not whole.
    """
    if source.gguf is not None:
        return check_header(source.folder / source.gguf, name), []
    weights = weight_names(source.folder)
    check_files(source.folder, weights, name)
    return None, weights


def _quiet() -> None:
    """Have the libraries that load a model say nothing: what matters is said in one sentence, or shown as progress."""
    silence()
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for library in ("accelerate", "bitsandbytes", "huggingface_hub", "torchao", "torch.utils._pytree"):
        logging.getLogger(library).setLevel(logging.ERROR)


def _dequantised(
    hf: Any, header: GgufHeader | None, source: Source, memory: Footprint, cache: bool
) -> Steps[GgufFile | None]:
    """What is to be known of the GGUF file that a model came from, the model made a plain one; None without a file."""
    if header is None:
        return None
    make_plain(hf)
    file: GgufFile = yield from gguf_file(source.folder / str(source.gguf), header, memory.body_bytes, cache)
    return file


def _tokenizer(
    source: Source, options: RunOptions, common: dict[str, Any], config: Any, reads_text: bool = True
) -> Any:
    """The tokenizer beside a model's weights, or the ids in its place.

    Raises `ModelError` where there is none and text would be read, or where it cannot be loaded.
    """
    import transformers

    needs_text = reads_text and not are_ids(options.text)
    if options.vocabulary is not None:
        if needs_text:
            raise ModelError(
                f"{options.model} is read by its token ids (--vocabulary), and "
                f"{options.text[0] if options.text else 'the built-in text'} is text: name a file of ids "
                "with --text ids.npy, or nanoGPT's or Megatron's .bin."
            )
        return id_tokenizer(config, options.vocabulary)
    try:
        beside = {name: value for name, value in common.items() if name != "gguf_file" or source.gguf is not None}
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.name, **beside)
    except Exception as error:  # whatever transformers raises
        if not tokenizer_files(source.folder):
            if not needs_text:
                return id_tokenizer(config)
            raise ModelError(
                f"{options.model} has no tokenizer beside its weights (tokenizer.json, tokenizer.model or the like): "
                f"save the one it was trained with there, with tokenizer.save_pretrained(){OR_IDS}"
            ) from error
        raise explain(error, options, "the tokenizer of ") from error
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_ids)):
        if not needs_text:
            return id_tokenizer(config)
        raise ModelError(
            f"{options.model} has no tokenizer (its vocabulary is empty): save one beside the weights "
            f"with tokenizer.save_pretrained(){OR_IDS}"
        )
    return tokenizer


def _found(asked: RunOptions) -> Steps[tuple[RunOptions, RunOptions, Source, Adapter | None]]:
    """(What was asked for, what to load, where that is, the adapter to put on it), from names and files alone."""
    asked = options = with_adapter_apart(asked)
    adapter = yield from find_adapter(asked)
    source = yield from _source(options)
    if source.gguf is None and is_adapter(source.folder):
        alone = read_adapter(asked.model, source.folder)
        options = base_options(asked, alone)
        try:
            source = yield from _source(options)
        except ModelError as problem:
            raise no_base(alone, problem) from problem
        adapter = alone
    return asked, options, source, adapter


def _notes(folder: Path, name: str, adapter: Adapter | None) -> tuple[str, ...]:
    """What a user must know of how a model was loaded: the adapter on it, or one beside it that is left out."""
    if adapter is not None:
        way = f"beside its weights ({adapter.apart})" if adapter.apart else "merged into its weights"
        return (f"{name} is loaded with the adapter {adapter.name} ({adapter.kind}) {way}.",)
    base = adapter_of(folder)
    if base is None:
        return ()
    return (
        f"{name} holds an adapter too (adapter_config.json, for {base}), and is inspected without it: add "
        f"--adapter {name} to see its effect.",
    )


def _source(options: RunOptions) -> Steps[Source]:
    """Where to load from: a local folder that holds a model, else a hub id whose files are in the local cache now."""
    if not options.model.strip():
        raise ModelError(f"no model is named ({options.model!r}): name a folder, a .gguf file, a hub id, or {DEMO}.")
    name = str(bundled_path()) if options.model == DEMO else os.path.expanduser(options.model)
    path = Path(name)
    whole = path.is_dir() and (path / "config.json").is_file() and not missing_weights(path)
    gguf = local_gguf(path, options, has_weights=whole)
    if gguf is not None:
        return Source(str(gguf.parent), None, True, gguf.parent, gguf=gguf.name)
    if path.is_dir():
        if options.revision is not None:
            raise ModelError(f"{options.model} is a folder and has no revision {options.revision!r}: name a hub id.")
        if is_adapter(path):
            return Source(name, None, True, path)
        if not (path / "config.json").is_file():
            raise ModelError(
                f"the folder {name} has no config.json: name one that save_pretrained() wrote, or a hub id like gpt2."
            )
        missing = missing_weights(path)
        if missing:
            raise ModelError(
                f"the folder {name} has a config.json but not all weights ({missing} is missing): "
                "copy it there, or save the model again with save_pretrained()."
            )
        return Source(name, None, True, path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no folder {name}.")
    source: Source = yield from fetch(name, options)
    return source


def _check_keys(
    info: Mapping[str, Any],
    hf: Any,
    folder: Path | None,
    weights: list[str],
    *,
    task: Task,
    quantisation: Quantisation | None,
    name: str,
) -> None:
    """Raise `ModelError` where a checkpoint's tensors are not the model's: of other shapes, too few, or left over.

    `folder` is None for a GGUF file, which has no config beside it.
    """
    called = name if quantisation is None else f"{name}, quantised with {quantisation},"
    check_shapes(info["mismatched_keys"], folder, weights, called)
    check_leftovers(info["unexpected_keys"], hf, quantisation, name)
    _check_missing(without_idle(info["missing_keys"], quantisation), task, called)


def _check_missing(keys: Any, task: Task, name: str) -> None:
    missing = sorted(keys)
    if missing:
        raise ModelError(
            f"the checkpoint of {name} lacks {len(missing)} weights of {TASK_NAMES[task]} "
            f"(first: {missing[0]}): it would run on random values; choose a checkpoint with a language-model head."
        )


def _context(hf: Any, config: Any, tokenizer: Any) -> int:
    """Positions that a forward pass may have: by the config, the tokenizer, and learned position embeddings."""
    text = config.get_text_config(decoder=True)
    told = (getattr(text, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None))
    limits = [limit for each in told if (limit := _length(each)) is not None] or [DEFAULT_CONTEXT]
    for name, module in hf.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding) and module.padding_idx is not None:
            limits.append(module.num_embeddings - module.padding_idx - 1)  # RoBERTa counts from after the padding
    return min(limit for limit in limits if limit > 0)


def _length(value: Any) -> int | None:
    """A number of positions as a config or a tokenizer says it, perhaps as text; None where that is none."""
    try:
        length = int(float(value))
    except (TypeError, ValueError, OverflowError):
        return None
    return length if 0 < length < NO_LIMIT and not isinstance(value, bool) else None
