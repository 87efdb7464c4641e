"""PEFT adapters: where one is, what it is for, and a transformers model that computes what the adapted model does.

An adapter is named beside its base (``--adapter``, or a revision ``adapter:FOLDER``) or opened in its place, when its
own config names the base.

**Merged, where that is exact.** In float32 the changes are added to the base's weights (peft's `merge_and_unload`) and
a plain transformers model is left, which everything else reads, edits and saves as any other. A head that shares its
matrix with the input embedding gets a matrix of its own first, so that what adapts the one leaves the other alone.
In float16 and bfloat16 a sum of weights would be rounded to the base's 11 or 8 bits, which loses most of a small
change; packed weights would be rounded further. There the adapter's layers stay in the model, and W is read from a
float32 copy of the head (`tpe_core.models.adapted_head`). Either way the logits are compared with those of the model
that peft builds.

Kinds that add tokens before the text (prompt and prefix tuning), or run elsewhere than inside modules, are refused.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tpe_core.errors import ModelError, TpeError, reason_of
from tpe_core.json_text import parse_json
from tpe_core.models.capture import forward, input_device, probe_inputs
from tpe_core.models.head import Task
from tpe_core.models.hub import Source, adapter_weights, fetch
from tpe_core.models.model_files import ADAPTER, check_files, tokenizer_files
from tpe_core.models.sampling import decoder_start
from tpe_core.options import RunOptions
from tpe_core.progress import Steps

__all__ = ["Adapter", "base_options", "find_adapter", "no_base", "put_on", "read_adapter", "with_adapter_apart"]

PREFIX = "adapter:"  # of a revision that is an adapter
SLOT = "default"  # the name that peft gives an adapter inside a model
KINDS = {"LORA": "LoRA", "ADALORA": "AdaLoRA", "LOHA": "LoHa", "LOKR": "LoKr", "VERA": "VeRA"}
OTHER_TASKS = {
    "SEQ_CLS": "classifies texts",
    "TOKEN_CLS": "classifies tokens",
    "QUESTION_ANS": "marks answers in a text",
    "FEATURE_EXTRACTION": "gives hidden states",
}
TOLERANCE = 1e-4  # of the largest logit: what merging in float32 may change, by rounding


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter's files and what its config says."""

    name: str  # as the user wrote it: a folder or a hub id
    folder: Path
    kind: str  # peft's name of the method
    base: str  # the model it was trained on, by its config; empty where that does not say
    base_revision: str | None
    sha256: str  # of its config and weights
    layers: int = 0  # modules that it changes
    apart: str = ""  # why its changes are not in the base's weights but beside them; empty where they are in them

    def to_dict(self) -> dict[str, Any]:
        """The entry ``adapter`` of `tpe check --json`."""
        return {
            "name": self.name,
            "kind": self.kind,
            "base": self.base or None,
            "layers": self.layers,
            "merged": not self.apart,
            "sha256": self.sha256,
        }

    @property
    def tokenizer(self) -> Source | None:
        """Where the tokenizer is that was saved with it; None without one."""
        return Source(str(self.folder), None, True, self.folder) if tokenizer_files(self.folder) else None

    def revision(self, base: str | None) -> str:
        """What a base's revision is called with the adapter on it: a revision that loads the same again."""
        return "+".join(filter(None, (base, f"{PREFIX}{self.name}")))


def with_adapter_apart(options: RunOptions) -> RunOptions:
    """Options whose revision names no adapter: what ``[REVISION+]adapter:FOLDER`` says stands in both fields.

    Raises `ModelError` where an adapter is named twice, or not at all.
    """
    revision, found, name = (options.revision or "").partition(PREFIX)
    if not found or (revision and not revision.endswith("+")):
        return options
    if options.adapter is not None:
        raise ModelError(f"--adapter {options.adapter} and the revision {options.revision} name one each: give one.")
    if not name:
        raise ModelError(f"the revision {options.revision} names no adapter: write adapter:FOLDER or adapter:HUB-ID.")
    return replace(options, revision=revision.removesuffix("+") or None, adapter=name)


def find_adapter(options: RunOptions) -> Steps[Adapter | None]:
    """The adapter that `options` name beside a model, fetched where it is one of the hub: a job; None without one."""
    if options.adapter is None:
        return None
    name = os.path.expanduser(options.adapter)
    folder = Path(name)
    if not folder.is_dir():
        if folder.exists() or name.startswith((".", "/")) or name.count("/") > 1:
            raise ModelError(f"there is no adapter folder {name}: name the one that holds {ADAPTER}, or a hub id.")
        source = yield from fetch(name, replace(options, model=name, revision=None), adapter=True)
        folder = source.folder
    return read_adapter(options.adapter, folder)


def read_adapter(name: str, folder: Path) -> Adapter:
    """The adapter in a folder, by its files alone. Raises `ModelError` where they are missing or broken."""
    path = folder / ADAPTER
    if not path.is_file():
        raise ModelError(f"{name} holds no adapter: there is no {ADAPTER} in it.")
    try:
        config = parse_json(path.read_text(encoding="utf-8"))
        kind = str(config["peft_type"]).upper()
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ModelError(
            f"the adapter {name} has an {ADAPTER} that names no peft_type ({reason_of(error)})."
        ) from error
    weights = adapter_weights(folder)
    if not weights:
        raise ModelError(f"the adapter {name} lacks its weights (adapter_model.safetensors): copy or fetch it again.")
    check_files(folder, [weights], name)
    digest = hashlib.sha256(path.read_bytes())
    with (folder / weights).open("rb") as stream:
        digest.update(hashlib.file_digest(stream, "sha256").digest())
    base, revision = config.get("base_model_name_or_path"), config.get("revision")
    return Adapter(
        name=name,
        folder=folder,
        kind="DoRA" if config.get("use_dora") else KINDS.get(kind, kind),
        base=base if isinstance(base, str) else "",
        base_revision=revision if isinstance(revision, str) and revision else None,
        sha256=digest.hexdigest(),
    )


def base_options(options: RunOptions, adapter: Adapter) -> RunOptions:
    """The options that load the base of an adapter that was named in its place. Raises `ModelError` without one.

    A path in its config may be relative to the working directory, or to the adapter's folder.
    """
    if options.adapter is not None:
        raise ModelError(
            f"{options.model} is an adapter itself (for {adapter.base or 'another model'}): name the model that "
            f"--adapter {options.adapter} goes on."
        )
    if not adapter.base:
        raise ModelError(
            f"{adapter.name} is an adapter whose {ADAPTER} names no base model: name it, with --adapter {adapter.name}."
        )
    beside = adapter.folder / adapter.base
    base = str(beside) if beside.is_dir() and not Path(adapter.base).is_dir() else adapter.base
    return replace(options, model=base, revision=adapter.base_revision)


def no_base(adapter: Adapter, problem: TpeError) -> ModelError:
    """Why an adapter could not be opened by itself."""
    return ModelError(
        f"{adapter.name} is an adapter for {adapter.base}, which cannot be had ({str(problem).rstrip('.')}): "
        f"name a copy of it, with --adapter {adapter.name}."
    )


def put_on(hf: Any, adapter: Adapter, task: Task) -> tuple[Any, Adapter]:
    """(A model that computes what `hf` does with an adapter on it, what is known of the adapter then).

    `hf` is changed; `task` says which inputs it takes. Raises `ModelError` in one sentence where the
    adapter is of a kind that is not supported, is broken, or is another model's.
    """
    try:
        import peft
        from peft.utils.save_and_load import load_peft_weights
    except ImportError as error:
        raise ModelError(
            f"{adapter.name} is a PEFT adapter and the package peft is not installed: "
            "run `pip install 'tpe-tui[adapters]'`."
        ) from error
    logging.getLogger("peft").setLevel(logging.ERROR)
    config = _config(adapter, peft)
    inputs = probe_inputs(task, 2, 2, input_device(hf), decoder_start(hf) or 0)
    _check_kind(adapter, config)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            keys = getattr(hf, "_checkpoint_conversion_mapping", {})
            saved = load_peft_weights(str(adapter.folder), device="cpu", key_mapping=keys)
            _resize(hf, saved)
            wrapped = peft.PeftModel(hf, config, adapter_name=SLOT)
            _check_whole(adapter, hf, saved)
            result = wrapped.load_adapter(str(adapter.folder), SLOT, torch_device="cpu", key_mapping=keys)
            _check_keys(adapter, hf, saved, result)
            wrapped.eval()
            reference = forward(wrapped, inputs).logits
            layers = len(_adapted(hf))
            apart = _why_apart(hf, wrapped, config)
            if not apart:
                _untie(hf)
                hf = wrapped.merge_and_unload()
                _say_untied(hf)
            logits = forward(hf, inputs).logits
    except TpeError:
        raise
    except Exception as error:  # whatever peft and torch raise over an adapter that is not this model's
        raise _misfit(adapter, hf, reason_of(error, 300)) from error
    _check_logits(adapter, reference, logits)
    for parameter in hf.parameters():
        parameter.requires_grad_(False)
    return hf, replace(adapter, layers=layers, apart=apart)


def _config(adapter: Adapter, peft: Any) -> Any:
    """The adapter's config as peft reads it."""
    kind = str(parse_json((adapter.folder / ADAPTER).read_text(encoding="utf-8"))["peft_type"]).upper()
    if kind not in peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING:
        raise ModelError(
            f"the adapter {adapter.name} is of type {kind}, which the installed peft {peft.__version__} does not know: "
            "upgrade it, with `pip install -U peft`, or check the peft_type of its adapter_config.json."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            config = peft.PeftConfig.from_pretrained(str(adapter.folder))
    except Exception as error:  # whatever peft raises over a config
        raise ModelError(f"the {ADAPTER} of the adapter {adapter.name} cannot be read: {reason_of(error)}") from error
    config.inference_mode = True
    return config


def _check_kind(adapter: Adapter, config: Any) -> None:
    """Refuse what is no change of a language model's modules."""
    task = getattr(config.task_type, "value", config.task_type)
    if task in OTHER_TASKS:
        raise ModelError(
            f"the adapter {adapter.name} {OTHER_TASKS[task]} (its task type is {task}) and predicts no tokens: "
            "name one of task type CAUSAL_LM or SEQ_2_SEQ_LM."
        )
    if config.is_prompt_learning:
        raise ModelError(
            f"the adapter {adapter.name} is of type {adapter.kind}: it puts learned tokens before every text and "
            "changes no weights, which is not supported; LoRA, IA3 and other adapters of modules are."
        )


def _resize(hf: Any, saved: Mapping[str, Tensor]) -> None:
    """Give the base as many tokens as the embedding or head that is saved with an adapter has rows."""
    known = hf.get_input_embeddings().weight.shape
    names = {name for name, module in hf.named_modules() if module in _ends(hf)}
    for key, tensor in saved.items():
        place = key.removeprefix("base_model.model.").removesuffix(".weight").removesuffix(".base_layer")
        whole = place in names and tensor.ndim == 2 and tensor.shape[1] == known[1]
        if whole and tensor.shape[0] != known[0]:
            hf.resize_token_embeddings(tensor.shape[0], mean_resizing=False)
            return


def _ends(hf: Any) -> list[nn.Module]:
    """The modules of the input and the output embedding."""
    return [module for module in (hf.get_input_embeddings(), hf.get_output_embeddings()) if module is not None]


def _adapted(hf: Any) -> list[nn.Module]:
    """The modules that peft put in place of others."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    found = [(name, module) for name, module in hf.named_modules()
             if isinstance(module, BaseTunerLayer | AuxiliaryTrainingWrapper)]  # fmt: skip
    return [module for name, module in found if not any(name.startswith(f"{outer}.") for outer, _ in found)]


def _check_whole(adapter: Adapter, hf: Any, saved: Mapping[str, Tensor]) -> None:
    """Raise `ModelError` where modules that the adapter's config replaces are not in its weights."""
    wanted = [
        f"base_model.model.{name}.{part}"
        for name, module in hf.named_modules()
        if hasattr(module, "modules_to_save") and getattr(module, "tied_module", None) is None
        for part in module.modules_to_save[SLOT].state_dict()
    ]
    _check_missing(adapter, [key for key in wanted if key not in saved])


def _check_missing(adapter: Adapter, keys: list[str]) -> None:
    if keys:
        raise ModelError(
            f"the weights of the adapter {adapter.name} lack {len(keys)} that its config asks for, like {min(keys)}: "
            "copy or fetch it again."
        )


def _check_keys(adapter: Adapter, hf: Any, saved: Mapping[str, Tensor], result: Any) -> None:
    """Raise `ModelError` where weights of the adapter have no place in the model, or its places no weights.

    peft writes some of the modules that are saved whole twice.
    """
    twice = ".modules_to_save"
    foreign = sorted(key for key in result.unexpected_keys if twice not in key or key.replace(twice, "") not in saved)
    if foreign:
        raise _misfit(adapter, hf, f"it has {len(foreign)} weights that the model has no place for, like {foreign[0]}")
    _check_missing(adapter, list(result.missing_keys))


def _misfit(adapter: Adapter, hf: Any, reason: str) -> ModelError:
    base = f"name {adapter.base}, which it was trained on" if adapter.base else "name the model it was trained on"
    return ModelError(
        f"the adapter {adapter.name} does not go on {type(hf).__name__} ({reason.rstrip('.')}): {base}, or fetch the "
        "adapter again."
    )


def _why_apart(hf: Any, wrapped: Any, config: Any) -> str:
    """Why an adapter's changes cannot be merged exactly, as a clause; empty where they can."""
    if getattr(hf, "hf_quantizer", None) is not None:
        return "the weights are quantised"
    if hasattr(hf, "hf_device_map") or any(each.device.type == "meta" for each in hf.parameters()):
        return "the weights are spread over devices"
    narrow = [each.dtype for each in hf.parameters() if each.dtype not in (torch.float32, torch.float64)]
    if narrow:
        return f"the weights are {str(narrow[0]).removeprefix('torch.')}, which would round it"
    if getattr(config, "lora_bias", False):
        return "it adds biases to layers that have none"
    return "" if hasattr(wrapped.base_model, "merge_and_unload") else "peft cannot merge its kind"


def _inner(module: Any) -> Any:
    """The plain module inside an adapter's layers, whose weight merging writes into."""
    while True:
        if hasattr(module, "modules_to_save"):
            module = module.modules_to_save[SLOT]
        elif hasattr(module, "token_adapter"):
            module = module.token_adapter
        elif hasattr(module, "base_layer"):
            module = module.base_layer
        else:
            return module


def _untie(hf: Any) -> None:
    """Give the head a matrix of its own where merging would write into the one it shares with the embedding."""
    embedding, head = hf.get_input_embeddings(), hf.get_output_embeddings()
    if head is None or (_inner(head) is head and _inner(embedding) is embedding):
        return
    if _inner(head).weight is _inner(embedding).weight:
        _inner(head).weight = nn.Parameter(_inner(head).weight.detach().clone(), requires_grad=False)


def _say_untied(hf: Any) -> None:
    """Have a model's config say that the head is a matrix of its own, where it has become one."""
    embedding, head = hf.get_input_embeddings(), hf.get_output_embeddings()
    if head is None or getattr(head, "weight", None) is embedding.weight:
        return
    for config in {id(each): each for each in (hf.config, hf.config.get_text_config(decoder=True))}.values():
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False


def _check_logits(adapter: Adapter, reference: Tensor, logits: Tensor) -> None:
    """Raise `ModelError` where the model that is left does not compute what peft's does."""
    if reference.shape != logits.shape or not bool(reference.isfinite().any()):
        raise ModelError(
            f"the adapter {adapter.name} (type {adapter.kind}) changes the shape of the logits, or gives none that are "
            "numbers, so it is not supported."
        )
    masked = reference.isinf() & logits.isinf()
    apart = float((reference.float() - logits.float()).masked_fill(masked, 0.0).abs().max())
    largest = float(reference.float().masked_fill(masked, 0.0).abs().max())
    if not apart <= TOLERANCE * max(largest, 1e-3):
        raise ModelError(
            f"the adapter {adapter.name} (type {adapter.kind}) is not in the model's modules alone: without peft "
            f"around them the logits differ by up to {apart:.3g} of {largest:.3g}, so it is not supported."
        )
