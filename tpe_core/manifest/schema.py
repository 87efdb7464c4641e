"""What the JSON of an intervention holds: schema 2, field by field, with the limits of every value.

Pure records: no file is read or written here, and no field is guessed where one is missing. `migration`
makes this schema's documents of older ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    WithJsonSchema,
    field_validator,
    model_serializer,
    model_validator,
)

from tpe_core.edits.intervention import METHODS, Intervention, Method, Steering
from tpe_core.edits.replacements import REPLACEMENTS
from tpe_core.outputs import INTERVENTION
from tpe_core.printable import printable_token
from tpe_core.token_sets.token_set import TokenSet

__all__ = [
    "DIRECTION",
    "DOMAIN_NAMES",
    "KIND",
    "RECONSTRUCTION",
    "REPLACEMENT_VALUES",
    "SCHEMA",
    "Achieved",
    "AchievedBySet",
    "ArraysFile",
    "DomainName",
    "EditArrays",
    "Expected",
    "MadeOn",
    "Manifest",
    "Measured",
    "MeasuredText",
    "PostRecord",
    "SelfTest",
    "SteeredSet",
    "SteeredToken",
    "TestPrompt",
    "json_schema",
    "published_schema",
]

KIND = INTERVENTION
SCHEMA = 2

DomainName = Literal["local", "heldout", "ood"]
DOMAIN_NAMES: tuple[DomainName, ...] = get_args(DomainName)

REPLACEMENT_VALUES = "replacement_values"
"""Array [s]: what the replaced dimensions become, or the constant that is added to the `RECONSTRUCTION`."""
RECONSTRUCTION = "reconstruction"
"""Array [s, k]: the replaced dimensions as linear functions of the kept ones."""
DIRECTION = "direction."
"""Prefix of arrays [d], one for each steering method in use: the direction in which a row of W moves."""

Floats = NDArray[np.float64]


def _encodable(value: object) -> object:
    """Prompts and paths from a command line can hold bytes that no file can: they become ``?``."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _without(document: dict[str, Any], name: str, is_empty: bool) -> dict[str, Any]:
    """A document less a field that nothing is in: files without it are those that were written before it."""
    if is_empty:
        document.pop(name, None)
    return document


Text = Annotated[str, BeforeValidator(_encodable)]
Index = Annotated[int, Field(ge=0, lt=2**31)]
Size = Annotated[int, Field(gt=0, lt=2**31)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


class _Record(BaseModel):
    """Frozen, exact types, no unknown fields, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class SteeredToken(_Record):
    """One steered token; `token` is its printable text, for people."""

    token_id: Index
    token: Text
    ratio: Positive
    method: Method


def _ascending(numbers: tuple[int, ...], what: str) -> tuple[int, ...]:
    """The numbers themselves. Raises ValueError where one is listed twice or out of order."""
    if any(low >= high for low, high in pairwise(numbers)):
        raise ValueError(f"must list every {what} once, in ascending order")
    return numbers


class SteeredSet(_Record):
    """Tokens that are steered as one: the definition that they were found by, and which they are, ascending."""

    name: Text
    definition: Text
    token_ids: Annotated[tuple[Index, ...], Field(min_length=1, json_schema_extra={"uniqueItems": True})]
    ratio: Positive
    method: Method

    @field_validator("token_ids")
    @classmethod
    def _ascends(cls, ids: tuple[int, ...]) -> tuple[int, ...]:
        return _ascending(ids, "token_id")


class PostRecord(_Record):
    """What lies between the head product and the logits: its kind, scale and soft cap."""

    kind: Text
    scale: float | None
    cap: float | None


class MadeOn(_Record):
    """The model that the edit was made on."""

    model: Text
    revision: Text | None
    head_sha256: Sha256
    vocab_rows: Size
    hidden_size: Size
    tokenizer_sha256: Sha256
    post: PostRecord
    tied: bool
    file_sha256: Sha256 | None = None  # of the one file that a GGUF model came as; of others the field is not written

    @model_serializer(mode="wrap")
    def _without_no_file(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), "file_sha256", self.file_sha256 is None)


class Achieved(_Record):
    """What one steered token's mean probability was multiplied by."""

    token_id: Index
    ratio: float | None


class AchievedBySet(_Record):
    """What one steered set's mean probability, the sum over its tokens, was multiplied by."""

    name: Text
    ratio: float | None


class MeasuredText(_Record):
    """What the edit did on one text, averaged over its positions; what was not measured is null. Nats, shares.

    `local` is the detecting text itself, `heldout` its part that detection never saw, `ood` another kind of text.
    """

    domain: DomainName
    text: Text
    positions: Size
    kl: float | None = None
    js: float | None = None
    top1: Share | None = None  # of positions whose most probable token stays
    perplexity: Positive | None = None
    entropy: float | None = None
    base_perplexity: Positive | None = None  # of the unedited head
    base_entropy: float | None = None
    achieved: tuple[Achieved, ...] = ()
    achieved_by_set: tuple[AchievedBySet, ...] = ()  # not written where no set is steered

    @model_serializer(mode="wrap")
    def _without_no_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), "achieved_by_set", not self.achieved_by_set)


class Measured(_Record):
    """The detecting text by which the edit was made, and what the edit did where it was tried: divergences in nats."""

    text: Text
    corpus_fingerprint: Sha256
    positions: Annotated[int, Field(ge=0)]
    prompt: Text
    kl: float | None  # after the prompt
    js: float | None
    texts: tuple[MeasuredText, ...]

    @field_validator("texts")
    @classmethod
    def _is_unique(cls, texts: tuple[MeasuredText, ...]) -> tuple[MeasuredText, ...]:
        if len({text.domain for text in texts}) < len(texts):
            raise ValueError("must name every domain once")
        return texts


class Expected(_Record):
    """One token's edited logit, after any scale and soft cap."""

    token_id: Index
    token: Text
    logit: float


class TestPrompt(_Record):
    """A prompt and what the edited head says after it: the most probable tokens, best first, then steered ones."""

    __test__ = False  # no test of pytest's, whatever it is called

    prompt: Annotated[Text, Field(max_length=2000)]
    top: Annotated[tuple[Expected, ...], Field(min_length=1, max_length=100)]
    steered: Annotated[tuple[Expected, ...], Field(max_length=100)]

    @field_validator("top", "steered")
    @classmethod
    def _is_unique(cls, entries: tuple[Expected, ...]) -> tuple[Expected, ...]:
        if len({entry.token_id for entry in entries}) < len(entries):
            raise ValueError("must name every token_id once")
        return entries

    @field_validator("top")
    @classmethod
    def _descends(cls, entries: tuple[Expected, ...]) -> tuple[Expected, ...]:
        if any(first.logit < second.logit for first, second in pairwise(entries)):
            raise ValueError("must list logits in descending order")
        return entries


class SelfTest(_Record):
    """What the edited model says after a few prompts, so that whoever applies the edit can see that it took.

    `dtype` is that of the model that said it; `task` tells where it was asked: after the last token (``causal``), at
    the first mask (``masked``), or at the decoder's next position (``seq2seq``).
    """

    task: Literal["causal", "masked", "seq2seq"]
    dtype: Text
    prompts: Annotated[tuple[TestPrompt, ...], Field(min_length=1, max_length=10)]


class ArraysFile(_Record):
    """The safetensors file beside the JSON, by bare name and content."""

    file: str
    sha256: Sha256

    @field_validator("file")
    @classmethod
    def _is_bare(cls, name: str) -> str:
        if name in {".", ".."} or set(name) & set("/\\:") or printable_token(name) != name:
            raise ValueError("must be the bare name of a file in the same folder")
        return name


def _is_replacement(name: str) -> str:
    if name not in (masks := REPLACEMENTS.masks):
        *names, last = map(repr, masks)
        raise ValueError(f"input should be {', '.join(names)} or {last}")
    return name


ReplacementName = Annotated[
    str, AfterValidator(_is_replacement), WithJsonSchema({"enum": list(REPLACEMENTS.masks), "type": "string"})
]


class Manifest(_Record):
    """An intervention, what it was made on and how it was measured.

    `pruned` ascends, so that arrays line up with it; `arrays` is filled in when the manifest is written.
    """

    schema_version: Literal[2] = Field(default=2, alias="schema")
    kind: Literal["tpe.intervention"] = "tpe.intervention"
    pruned: Annotated[tuple[Index, ...], Field(json_schema_extra={"uniqueItems": True})]
    replacement: ReplacementName
    steering: tuple[SteeredToken, ...]
    sets: tuple[SteeredSet, ...] = ()  # their tokens are not in `steering`; not written where there is none
    made_on: MadeOn
    made_by: Text | None  # what chose it, for people
    measured: Measured | None
    self_test: SelfTest | None
    versions: dict[Text, Text]  # of tpe, torch and transformers
    created: str  # ISO 8601 in UTC
    arrays: ArraysFile | None = None

    @field_validator("pruned")
    @classmethod
    def _ascends(cls, dims: tuple[int, ...]) -> tuple[int, ...]:
        return _ascending(dims, "dimension")

    @field_validator("steering")
    @classmethod
    def _is_unique(cls, entries: tuple[SteeredToken, ...]) -> tuple[SteeredToken, ...]:
        if len({entry.token_id for entry in entries}) < len(entries):
            raise ValueError("must steer every token_id once")
        return entries

    @field_validator("sets")
    @classmethod
    def _is_named_once(cls, sets: tuple[SteeredSet, ...]) -> tuple[SteeredSet, ...]:
        if len({each.name for each in sets}) < len(sets):
            raise ValueError("must name every set once")
        return sets

    @model_serializer(mode="wrap")
    def _without_no_set(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), "sets", not self.sets)

    @field_validator("created")
    @classmethod
    def _in_utc(cls, moment: str) -> str:
        try:
            read = datetime.fromisoformat(moment)
            if read.tzinfo is None:
                raise ValueError
            return read.astimezone(UTC).isoformat().replace("+00:00", "Z")
        except (ValueError, OverflowError):
            raise ValueError("must be a date and time with its zone, such as 2026-01-31T12:00:00Z") from None

    @model_validator(mode="after")
    def _fits_its_head(self) -> Manifest:
        width, rows = self.made_on.hidden_size, self.made_on.vocab_rows
        if self.pruned and self.pruned[-1] >= width:
            raise ValueError(f"it prunes dimension {self.pruned[-1]} of a head that has {width}")
        steered = [entry.token_id for entry in self.steering]
        steered += [token_id for each in self.sets for token_id in each.token_ids]
        highest = max(steered, default=-1)
        if highest >= rows:
            raise ValueError(f"it steers token id {highest} of a head that has {rows} rows")
        if len(set(steered)) < len(steered):
            raise ValueError("it steers a token twice, in two sets or in one and by itself")
        return self

    def intervention(self) -> Intervention:
        """The edit itself."""
        steering = tuple(Steering(entry.token_id, float(entry.ratio), entry.method) for entry in self.steering)
        edit = Intervention(self.pruned, self.replacement, steering)
        for each in self.sets:
            name = "" if each.name == each.definition else each.name
            edit = edit.steer_set(TokenSet(each.definition, each.token_ids, name), float(each.ratio), each.method)
        return edit

    @property
    def methods(self) -> set[Method]:
        """The methods that steer a token or a set."""
        return {entry.method for entry in self.steering} | {each.method for each in self.sets}

    def needed_arrays(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the float64 arrays that applying this edit needs."""
        needed: dict[str, tuple[int, ...]] = {}
        replacement = REPLACEMENTS[self.replacement]
        written = self.made_on.hidden_size if replacement.is_fitted else len(self.pruned)
        if self.pruned and replacement.is_measured:
            needed[REPLACEMENT_VALUES] = (written,)
        if self.pruned and replacement.rebuilds:
            needed[RECONSTRUCTION] = (written, self.made_on.hidden_size - len(self.pruned))
        for method in sorted(self.methods - {"bias"}):
            needed[DIRECTION + method] = (self.made_on.hidden_size,)
        return needed


@dataclass(frozen=True)
class EditArrays:
    """The float64 arrays beside a manifest, by what they mean; those that an edit does not need are left out."""

    values: Floats | None = None  # REPLACEMENT_VALUES
    reconstruction: Floats | None = None  # RECONSTRUCTION
    directions: Mapping[Method, Floats] = field(default_factory=dict)  # DIRECTION + method

    @staticmethod
    def read(arrays: Mapping[str, Floats]) -> EditArrays:
        """Pick the arrays of a file by their names there."""
        directions = {method: arrays[DIRECTION + method] for method in METHODS if DIRECTION + method in arrays}
        return EditArrays(arrays.get(REPLACEMENT_VALUES), arrays.get(RECONSTRUCTION), directions)

    def named(self) -> dict[str, Floats]:
        """The arrays by their names in the file, as `Manifest.needed_arrays` has them."""
        optional = {RECONSTRUCTION: self.reconstruction, REPLACEMENT_VALUES: self.values}
        arrays = {name: array for name, array in optional.items() if array is not None}
        return arrays | {DIRECTION + method: direction for method, direction in self.directions.items()}


def json_schema() -> dict[str, Any]:
    """The published JSON Schema (2020-12) of an intervention's file, as these records imply it.

    It cannot say that `pruned` ascends, that every token is steered once, or that all of it fits the head.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:{KIND.replace('.', ':')}:{SCHEMA}",
        **Manifest.model_json_schema(by_alias=True, mode="validation"),
        "title": "An intervention on a language model's output head",
    }


def published_schema() -> str:
    """`json_schema` as the file that comes with the package, for tools that cannot run it."""
    return Path(__file__).with_name("intervention.schema.json").read_text(encoding="utf-8")
