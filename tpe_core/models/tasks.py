"""What a checkpoint was trained to predict: the next token, masked tokens, or a decoder's next token.

Read from the class it was saved as, by transformers' own tables; a checkpoint without a language-model head is refused.
"""

from __future__ import annotations

from typing import Any, get_args

from tpe_core.errors import ModelError
from tpe_core.models.head import Task

__all__ = ["auto_class", "task_of"]

TABLES: dict[Task, tuple[tuple[str, str], ...]] = {
    "causal": (
        ("AutoModelForCausalLM", "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"),
        ("AutoModelForImageTextToText", "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"),  # run on text alone
    ),
    "masked": (("AutoModelForMaskedLM", "MODEL_FOR_MASKED_LM_MAPPING_NAMES"),),
    "seq2seq": (("AutoModelForSeq2SeqLM", "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES"),),
}
"""By task, the auto classes that load it and transformers' tables of the classes behind them."""

ENDINGS: dict[Task, tuple[str, ...]] = {
    "causal": ("ForCausalLM", "LMHeadModel", "DoubleHeadsModel"),
    "masked": ("ForMaskedLM", "ForPreTraining"),
    "seq2seq": ("ForConditionalGeneration", "WithLMHeadModel"),
}
"""How classes end that hold the task's head under another or an older name than transformers' table has."""

NAMES: dict[Task, str] = {"causal": "causal", "masked": "masked", "seq2seq": "encoder-decoder"}


def task_of(config: Any, requested: str | None, name: str = "the model") -> Task:
    """The task of a transformers `config`, or the one asked for where transformers can load it so.

    `name` is what messages call the model. Raises `ModelError` for an unknown task, for a checkpoint that was saved
    without a language-model head, and for a task that its architecture does not have.
    """
    if requested is not None:
        for task in get_args(Task):
            if task == requested and _classes(config, task):
                return task  # type: ignore[no-any-return]
        if requested in get_args(Task):
            raise ModelError(f"{name} is a {config.model_type} model, which transformers cannot load as {requested}.")
        raise ModelError(f"unknown task {requested!r}: choose one of {', '.join(get_args(Task))}.")
    saved = tuple(getattr(config, "architectures", None) or ())
    order = _order(config)
    for task in order:
        if any(entry in _classes(config, task) for entry in saved):
            return task
    for task in order:
        if _classes(config, task) and any(entry.endswith(ENDINGS[task]) for entry in saved):
            return task
    for task in order:
        if _classes(config, task) and (not saved or _remote(config, task) or saved[0].endswith("Model")):
            return task  # saved without its head, which may still be tied to the input: loading tells
    if not saved:
        raise ModelError(f"{name} is a {config.model_type} model, for which transformers has no language model.")
    raise ModelError(
        f"{name} was saved as {saved[0]}, not as a language model over text: choose a checkpoint with a language-model "
        f"head, or say with --task what it predicts ({', '.join(get_args(Task))})."
    )


def auto_class(config: Any, task: Task) -> Any:
    """The transformers auto class that loads a model of `config` for `task`."""
    import transformers
    from transformers.models.auto import modeling_auto

    for loader, table in TABLES[task]:
        if config.model_type in getattr(modeling_auto, table) or loader in _auto_map(config):
            return getattr(transformers, loader)
    return getattr(transformers, TABLES[task][0][0])


def _order(config: Any) -> tuple[Task, ...]:
    """Tasks, the likelier first: one class can stand in the tables of several."""
    if getattr(config, "is_encoder_decoder", False):
        return ("seq2seq", "causal", "masked")
    encoder = bool(_classes(config, "masked")) and not getattr(config, "is_decoder", False)
    if encoder and getattr(config, "causal", False) is False:  # BERT as a decoder is the exception, XLM says which
        return ("masked", "causal", "seq2seq")
    return ("causal", "masked", "seq2seq")


def _classes(config: Any, task: Task) -> tuple[str, ...]:
    """The names of the classes that load a config's model type for `task`."""
    from transformers.models.auto import modeling_auto

    names: list[str] = []
    for _, table in TABLES[task]:
        classes = getattr(modeling_auto, table).get(config.model_type, ())
        names += [classes] if isinstance(classes, str) else classes
    return (*names, *(_remote(config, task)))


def _auto_map(config: Any) -> dict[str, str]:
    return dict(getattr(config, "auto_map", None) or {})


def _remote(config: Any, task: Task) -> tuple[str, ...]:
    """The classes for `task` that come as code with the checkpoint."""
    remote = _auto_map(config)
    return tuple(remote[loader] for loader, _ in TABLES[task] if loader in remote)
