"""A causal language model behind the four things the engine needs: token ids, hidden states, its head, its fingerprint.

Loads from the hub, a revision, a local folder or the bundled weights; `trust_remote_code` is off. The model
itself is never edited: edits act on hidden states and head outputs only.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpe_core.errors import HeadError, ModelError, TpeError
from tpe_core.head import HeadReport, OutputHead, capture_hidden, open_head
from tpe_core.options import DEMO, RunOptions

__all__ = ["LanguageModel", "load_model"]

MAX_CONTEXT = 2048  # positions; longer contexts are cut, the statistics do not need them
WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin", "*.safetensors.index.json")


@dataclass(frozen=True)
class LanguageModel:
    """A loaded model, its tokenizer, and its measured head (see `LanguageModel.head`)."""

    name: str
    revision: str | None
    hf: Any  # transformers.PreTrainedModel
    tokenizer: Any  # transformers.PreTrainedTokenizerBase
    context: int  # positions a forward pass may have
    report: HeadReport
    measured_head: OutputHead | None

    @property
    def head(self) -> OutputHead:
        """The output head. Raises `HeadError` with the report's reason where it is unsupported."""
        if self.measured_head is None:
            raise HeadError(f"{self.name} cannot be inspected: {self.report.reason}")
        return self.measured_head

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        device: torch.device = next(self.hf.parameters()).device
        return device

    def hidden(self, ids: Tensor) -> Tensor:
        """[B, L, d] the head's input at every position of token ids [B, L], in the model's dtype; no V-wide product."""
        hidden, _ = capture_hidden(self.hf, self.hf.get_output_embeddings(), {"input_ids": ids.to(self.device)})
        return hidden

    def logits(self, ids: Tensor) -> Tensor:
        """[B, L, V_all] the model's own logits, by a whole forward: the reference for everything else."""
        with torch.inference_mode():
            logits: Tensor = self.hf(input_ids=ids.to(self.device), use_cache=False).logits
        return logits

    def prompt_ids(self, prompt: str) -> tuple[Tensor, int]:
        """([1, L] ids of a prompt, leading tokens dropped to fit the context); an empty prompt is the start of a text.

        Raises `TpeError` where the prompt is empty and the tokenizer has no token that starts a text.
        """
        ids = list(self.tokenizer(prompt, verbose=False)["input_ids"]) if prompt else []
        if not ids:
            start = next((i for i in (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id) if i is not None), None)
            if start is None:
                raise TpeError("the prompt is empty and this tokenizer has no token that starts a text: type a prompt.")
            ids = [start]
        dropped = max(0, len(ids) - self.context)
        return torch.tensor([ids[dropped:]]), dropped

    def last_hidden(self, prompt: str) -> tuple[Tensor, int, int]:
        """([d] float32 h at the prompt's last token, tokens used, tokens dropped)."""
        ids, dropped = self.prompt_ids(prompt)
        return self.hidden(ids)[0, -1].float().clone(), int(ids.shape[1]), dropped

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over the config, the head's content and a spread of every parameter's and buffer's values.

        A spread (64 values a tensor), because hashing a 7 B body would cost more than detecting with it; any
        training step changes nearly all values.
        """
        config = {
            name: value
            for name, value in self.hf.config.to_dict().items()
            if name not in ("_name_or_path", "transformers_version")
        }
        facts = [self.head.sha256, self.device.type, torch.__version__, config]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for name, tensor in (*self.hf.named_parameters(), *self.hf.named_buffers()):
            flat = tensor.detach().reshape(-1)
            if tensor.device.type == "meta" or not flat.numel():
                continue
            picks = torch.linspace(0, flat.numel() - 1, 64, dtype=torch.float64, device="cpu").long().to(flat.device)
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(flat[picks].double().cpu().numpy().tobytes())
        return digest.hexdigest()


def bundled_path() -> Path:
    """The folder of the bundled model."""
    return Path(__file__).parent / "demo" / "model"


def load_model(options: RunOptions) -> LanguageModel:
    """Load what `options` names and measure its head.

    Raises `ModelError` in one sentence where it cannot be found or loaded; an unsupported head is not an
    error here but stands in `LanguageModel.report`, and `LanguageModel.head` raises.
    """
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if options.threads:
        torch.set_num_threads(options.threads)
    source, revision = _source(options)
    common: dict[str, Any] = {
        "revision": revision,
        "trust_remote_code": options.trust_remote_code,
        "local_files_only": options.offline,
    }
    device = _device(options.device)
    try:
        config = transformers.AutoConfig.from_pretrained(source, **common)
        _check_causal(config, options.model)
        tokenizer = transformers.AutoTokenizer.from_pretrained(source, **common)
        hf, info = transformers.AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=_dtype(options.dtype, device), output_loading_info=True, **common
        )
    except TpeError:
        raise
    except Exception as error:  # whatever transformers and the hub raise; the cause chain says which it is
        raise _explain(error, options) from error
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_ids)):
        raise ModelError(
            f"{options.model} has no tokenizer (its vocabulary is empty): save one beside the weights "
            "with tokenizer.save_pretrained()."
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the checkpoint of {options.model} lacks {len(missing)} weights of a causal language model "
            f"(first: {missing[0]}): it would run on random values; choose a checkpoint with a language-model head."
        )
    try:
        hf = hf.to(device).eval()
    except RuntimeError as error:
        raise ModelError(f"{options.model} could not be put on {device}: {_first_line(error)}") from error
    context = _context(config, tokenizer)
    head, report = open_head(hf, max(tokenizer.get_vocab().values()) + 1, context)
    return LanguageModel(options.model, revision, hf, tokenizer, context, report, head)


def _source(options: RunOptions) -> tuple[str, str | None]:
    """(what to give to `from_pretrained`, revision), with local folders checked and hub names looked up first."""
    name = str(bundled_path()) if options.model == DEMO else os.path.expanduser(options.model)
    path = Path(name)
    if path.is_dir():
        if options.revision is not None:
            raise ModelError(f"{options.model} is a folder and has no revision {options.revision!r}: name a hub id.")
        if not (path / "config.json").is_file():
            raise ModelError(
                f"the folder {name} has no config.json: name one that save_pretrained() wrote, or a hub id like gpt2."
            )
        if not any(any(path.glob(pattern)) for pattern in WEIGHT_PATTERNS):
            raise ModelError(
                f"the folder {name} has a config.json but no weights (*.safetensors or pytorch_model*.bin)."
            )
        return name, None
    if path.is_file():
        raise ModelError(f"{name} is a file: name the model's folder, or a hub id like gpt2.")
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"there is no folder {name}.")
    _look_up(name, options)
    return name, options.revision


def _look_up(name: str, options: RunOptions) -> None:
    """Ask the hub (or its local cache) for the config before anything large: the place where names are wrong."""
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(name, "config.json", revision=options.revision, local_files_only=options.offline)
    except Exception as error:
        raise _explain(error, options) from error


def _explain(error: BaseException, options: RunOptions) -> ModelError:
    """One sentence for whatever the hub client or transformers raised, found along the chain of causes."""
    from huggingface_hub import errors

    name = options.model
    chain: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or at.__context__

    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(link, kinds) for link in chain)

    if has(errors.GatedRepoError):
        return ModelError(
            f"{name} is gated: accept its terms on its hub page, then log in with `hf auth login` (or set HF_TOKEN)."
        )
    if has(errors.RevisionNotFoundError):
        return ModelError(f"{name} has no revision {options.revision!r}: check the branch, tag or commit.")
    if has(errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub has no model {name} (or it is private): check the spelling, or log in with `hf auth login`."
        )
    if has(errors.HFValidationError):
        return ModelError(f"{name!r} is neither a folder nor a hub id: a hub id looks like EleutherAI/pythia-160m.")
    if has(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        why = "--offline was given" if options.offline else "the hub cannot be reached (offline?)"
        return ModelError(
            f"{name} is not in the local cache and {why}: connect once to download it, or name a local folder."
        )
    if has(errors.EntryNotFoundError):
        return ModelError(f"{name} has no config.json on the hub: it is not a transformers model.")
    if has(MemoryError, torch.cuda.OutOfMemoryError):
        return ModelError(f"{name} does not fit in memory: try --dtype bfloat16, another --device, or a smaller model.")
    if any("trust_remote_code" in str(link) for link in chain):
        return ModelError(f"{name} needs code of its own to run: read that code, then pass --trust-remote-code.")
    return ModelError(f"{name} could not be loaded: {type(error).__name__}: {_first_line(error)}")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else "no details")[:300]


def _check_causal(config: Any, name: str) -> None:
    architectures = list(getattr(config, "architectures", None) or [])
    if getattr(config, "is_encoder_decoder", False):
        raise ModelError(
            f"{name} is an encoder-decoder model ({config.model_type}): only causal models are supported so far."
        )
    if architectures and not any(
        entry.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for entry in architectures
    ):
        raise ModelError(
            f"{name} was saved as {architectures[0]}, not as a causal language model: "
            "choose a checkpoint with a language-model head."
        )


def _device(asked: str | None) -> torch.device:
    name = asked or ("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("mps"):
        raise ModelError("the device 'mps' cannot be used: it has no float64, which the sums need; use --device cpu.")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"the device {name!r} cannot be used: {_first_line(error)}; try --device cpu.") from error
    return device


def _dtype(asked: str | None, device: torch.device) -> Any:
    """The dtype asked for; else the checkpoint's own on a GPU, float32 on a CPU (half precision is slow there)."""
    if asked is None:
        return torch.float32 if device.type == "cpu" else "auto"
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if asked not in names:
        raise ModelError(f"unknown dtype {asked!r}: choose one of {', '.join(names)}.")
    return names[asked]


def _context(config: Any, tokenizer: Any) -> int:
    text = config.get_text_config()
    limits = [getattr(text, "max_position_embeddings", None), getattr(tokenizer, "model_max_length", None), MAX_CONTEXT]
    return max(1, min(int(limit) for limit in limits if limit))
