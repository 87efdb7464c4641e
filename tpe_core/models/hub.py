"""The hub and its local cache: what a model's name means there, what of it to fetch, and why it cannot be had.

Nothing here imports torch: the list of cached models must be there before the engine is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from fnmatch import fnmatch
from pathlib import Path

from tpe_core.errors import ModelError, TpeError, reason_of
from tpe_core.json_text import parse_json
from tpe_core.models.download import RemoteFile, Transfer, in_background
from tpe_core.models.gguf_files import choose_gguf, gguf_names
from tpe_core.models.hub_cache import broken_link, snapshot_of, why_not_cached
from tpe_core.models.model_files import ADAPTER
from tpe_core.options import RunOptions
from tpe_core.progress import Progress, Steps

__all__ = [
    "CachedModel",
    "Source",
    "adapter_weights",
    "cached_ids",
    "cached_models",
    "explain",
    "fetch",
    "is_adapter",
    "missing_weights",
    "weight_names",
]

SINGLE_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
OTHER_FILES = (
    "*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.onnx", "*.onnx_data", "*.ot", "*.gguf",
    "*.ggml", "*.npz", "*.tflite", "*.mlmodel", "*.nemo", "*.zip", "*.tar", "*.gz", "*.png", "*.jpg", "*.jpeg", "*.gif",
    "*.svg", "*.pdf", "*.mp4", "*.md", "*.csv", "*.parquet", "*.jsonl", ".*", "*.index.json",
)  # fmt: skip
"""What stands beside a model and is not part of it, or is its weights: all else in its folder is small and fetched."""


@dataclass(frozen=True)
class Source:
    """What to give to `from_pretrained`: a folder or hub id, the commit to take, and whether the network stays out.

    `folder` is where its files are. `gguf` names the file there that holds the whole model, where it is a GGUF file.
    """

    name: str
    revision: str | None
    local_only: bool
    folder: Path
    _: KW_ONLY
    gguf: str | None = None


@dataclass(frozen=True)
class CachedModel:
    """A model of the local cache: its id, bytes on disk, when it was last used (seconds since 1970), what is there.

    `revisions` are branches and tags where the cache knows them, else commits; ``main`` first.
    """

    id: str
    size: int
    last_used: float
    revisions: tuple[str, ...]


def fetch(name: str, options: RunOptions, *, adapter: bool = False) -> Steps[Source]:
    """Make sure that everything `from_pretrained` needs of a hub model is in the local cache: a job.

    Of a repository that holds an adapter and no model, what peft needs; with `adapter` of any that holds one.
    Raises `ModelError` in one sentence where the model, its revision or the hub cannot be had.
    """
    from huggingface_hub import constants

    if options.offline or constants.is_offline_mode():
        try:
            return _from_cache(name, options, adapter)
        except Exception as error:
            raise explain(error, options) from error
    transfer, sources = Transfer(), []
    try:
        yield Progress("look up the model", 0)
        yield from in_background(transfer, lambda: sources.append(_fetch(name, options, transfer, adapter)))
    except Exception as error:
        raise explain(error, options) from error
    return sources[0]


def _fetch(name: str, options: RunOptions, transfer: Transfer, adapter: bool) -> Source:
    from huggingface_hub import HfApi, constants, errors, hf_hub_download, try_to_load_from_cache

    try:
        info = HfApi().model_info(
            name, revision=options.revision, files_metadata=True, timeout=constants.HF_HUB_ETAG_TIMEOUT
        )
    except (errors.RevisionNotFoundError, errors.HFValidationError):
        raise
    except Exception as refused:  # no connection, no access, a hub out of order: what the cache has must do
        try:
            return _from_cache(name, options, adapter)
        except (errors.LocalEntryNotFoundError, ModelError):
            if isinstance(refused, errors.HfHubHTTPError) and refused.response.status_code < 500:
                raise refused from None
            raise
    sizes = {entry.rfilename: int(entry.size or 0) for entry in info.siblings or ()}
    commit = str(info.sha)
    gguf = None if adapter else choose_gguf(sizes, options.gguf_file, bool(_weights_of(sizes)), name)
    if gguf is not None:
        return _fetch_gguf(RemoteFile(gguf, sizes[gguf]), name, commit, options.revision, transfer)
    kind = _kind(name, sizes, adapter)
    folder = Path(hf_hub_download(name, kind, revision=options.revision)).parent
    weights = _weights_of(sizes, kind)
    if not weights:
        raise ModelError(f"{name} has no weights on the hub that transformers can load (safetensors or pytorch_model).")
    if weights[0].endswith(".index.json"):
        weights += _shards(Path(hf_hub_download(name, weights[0], revision=commit)))
    small = [entry for entry in sizes if _is_small(entry, options.trust_remote_code)]
    wanted = [
        RemoteFile(entry, sizes.get(entry, 0))
        for entry in dict.fromkeys((*small, *weights))
        if not isinstance(try_to_load_from_cache(name, entry, revision=commit), str)
    ]
    if wanted and not transfer.stop.is_set():
        transfer.fetch(name, commit, wanted)
    return Source(name, commit, not options.trust_remote_code, folder)  # a model's own code can name other models


def _fetch_gguf(file: RemoteFile, name: str, commit: str, revision: str | None, transfer: Transfer) -> Source:
    """Fetch the one GGUF file of a repository that is meant."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if not isinstance(try_to_load_from_cache(name, file.name, revision=commit), str) and not transfer.stop.is_set():
        transfer.fetch(name, commit, [file])
    if transfer.stop.is_set():
        return _source_of(Path(file.name))  # nobody waits for it
    return _source_of(Path(hf_hub_download(name, file.name, revision=revision)))  # is there: notes the branch's commit


def _source_of(path: Path) -> Source:
    return Source(str(path.parent), None, True, path.parent, gguf=path.name)


def _from_cache(name: str, options: RunOptions, adapter: bool) -> Source:
    """What the local cache holds, checked to be whole."""
    from huggingface_hub import hf_hub_download

    here = snapshot_of(name, options.revision)
    there: list[str] = []
    if here is not None:
        there = [path.name for path in here.iterdir()]
        names = [path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()]
        whole = (here / "config.json").exists() and not missing_weights(here)
        gguf = None if adapter else choose_gguf(names, options.gguf_file, whole, f"{name} in the local cache")
        if gguf is not None:
            return _source_of(here / gguf)
    kind = _kind(name, there, adapter) if ADAPTER in there else "config.json"
    folder = Path(hf_hub_download(name, kind, revision=options.revision, local_files_only=True)).parent
    missing = missing_weights(folder, kind) or broken_link(folder)
    if missing:
        raise ModelError(
            f"{name} is only partly in the local cache ({_missing(folder, missing)}) and {_unreachable(options)}: "
            "connect once to download the rest."
        )
    return Source(name, options.revision, True, folder)


def _missing(folder: Path, name: str) -> str:
    gone = (folder / name).is_symlink()
    return f"{name} is a link to a file that is gone" if gone else f"{name} is missing"


def _kind(name: str, files: Iterable[str], adapter: bool) -> str:
    """The config that says what to load from a repository with these files: a model's, or an adapter's."""
    there = set(files)
    if adapter and ADAPTER not in there:
        raise ModelError(f"{name} holds no adapter: there is no {ADAPTER} in it.")
    whole = "config.json" in there and bool(_weights_of(there))
    return ADAPTER if ADAPTER in there and (adapter or not whole) else "config.json"


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model of its own."""
    return _kind(str(folder), [path.name for path in folder.iterdir()], False) == ADAPTER


def adapter_weights(folder: Path) -> str:
    """The file that holds an adapter's weights; empty where there is none."""
    return next((name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), "")


def _weights_of(names: Iterable[str], kind: str = "config.json") -> list[str]:
    """The one file among `names` that says where the weights are, or holds them; safetensors before pickles."""
    there = set(names)
    return [name for name in (ADAPTER_WEIGHTS if kind == ADAPTER else SINGLE_WEIGHTS) if name in there][:1]


def _shards(index: Path) -> list[str]:
    """The files that a weight index names."""
    try:
        names = sorted(set(parse_json(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as error:
        raise ModelError(
            f"the weight index {index} cannot be read ({error}): fetch or save the model again."
        ) from error
    return [name for name in names if isinstance(name, str)]


def _is_small(name: str, code: bool) -> bool:
    """Whether a file is part of the config or the tokenizer, or the model's code where that may run."""
    return (
        "/" not in name and (code or not name.endswith(".py")) and not any(fnmatch(name, kind) for kind in OTHER_FILES)
    )


def missing_weights(folder: Path, kind: str = "config.json") -> str:
    """The weight file that a model's folder lacks, or an empty string where they are all there.

    A link that leads nowhere is no file. `kind` is the config that names what is loaded: a model's or an adapter's.
    """
    weights = _weights_of((path.name for path in folder.iterdir()), kind)
    if not weights:
        return "model.safetensors" if kind != ADAPTER else ADAPTER_WEIGHTS[0]
    if kind == ADAPTER:
        return "" if (folder / weights[0]).is_file() else weights[0]
    return next((name for name in (*weights, *weight_names(folder)) if not (folder / name).is_file()), "")


def weight_names(folder: Path) -> list[str]:
    """The files that hold a model's tensors: those its index names, or the one there is."""
    weights = _weights_of(path.name for path in folder.iterdir())
    indexed = bool(weights) and weights[0].endswith(".index.json") and (folder / weights[0]).is_file()
    return _shards(folder / weights[0]) if indexed else weights


def cached_models() -> list[CachedModel]:
    """The models of the hub's local cache that have a config or a GGUF file, the last used first."""
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    models = [
        CachedModel(
            repo.repo_id,
            repo.size_on_disk,
            repo.last_accessed,
            tuple(
                sorted(
                    {ref for revision in repo.revisions for ref in revision.refs or {revision.commit_hash}},
                    key=lambda ref: (ref != "main", ref),
                )
            ),
        )
        for repo in repos
        if repo.repo_type == "model"
        and any(_is_model(file.file_name) for revision in repo.revisions for file in revision.files)
    ]
    return sorted(models, key=lambda model: (-model.last_used, model.id))


def cached_ids() -> list[str]:
    """Ids of the models of the hub's local cache that have a config or a GGUF file, in order.

    Quick: only names are read, no sizes.
    """
    from huggingface_hub import constants

    folders = sorted(Path(constants.HF_HUB_CACHE).glob("models--*"))
    return [
        folder.name.removeprefix("models--").replace("--", "/")
        for folder in folders
        if any(_is_model(path.name) and path.exists() for path in folder.glob("snapshots/*/*"))
    ]


def _is_model(name: str) -> bool:
    return name == "config.json" or bool(gguf_names([name]))


def _unreachable(options: RunOptions) -> str:
    return "--offline was given" if options.offline else "the hub cannot be reached (offline?)"


def explain(error: BaseException, options: RunOptions, part: str = "") -> TpeError:
    """One sentence for whatever the hub client or transformers raised, found along the chain of causes.

    `part` names what of the model was being loaded, like ``the tokenizer of ``.
    """
    from huggingface_hub import errors

    if isinstance(error, TpeError):
        return error
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
        return ModelError(f"{name} has no revision {options.revision or 'main'!r}: check the branch, tag or commit.")
    if has(errors.RepositoryNotFoundError):
        return ModelError(
            f"the hub has no model {name} (or it is private): check the spelling, or log in with `hf auth login`."
        )
    if has(errors.HFValidationError):
        return ModelError(f"{name!r} is neither a folder nor a hub id: a hub id looks like EleutherAI/pythia-160m.")
    unconnected = any(type(link).__name__ in {"ConnectError", "ConnectTimeout"} for link in chain)  # httpx's
    if unconnected or has(errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        return ModelError(
            f"{name} {why_not_cached(name, options.revision)} and {_unreachable(options)}: "
            "connect once to download it, or name a local folder."
        )
    if has(errors.EntryNotFoundError):
        return ModelError(f"{name} has no config.json on the hub: it is not a transformers model.")
    if has(MemoryError) or any(type(link).__name__ == "OutOfMemoryError" for link in chain):
        return ModelError(
            f"{name} does not fit in memory: try --dtype bfloat16, --device-map auto, --quantize 4bit, "
            "or a smaller model."
        )
    if any("trust_remote_code" in str(link) for link in chain):
        return ModelError(f"{name} needs code of its own to run: read that code, then pass --trust-remote-code.")
    return ModelError(f"{part}{name} could not be loaded: {type(error).__name__}: {reason_of(error)}")
