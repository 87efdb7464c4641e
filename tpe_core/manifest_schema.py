"""What the JSON of an intervention holds: schema 1, field by field, with the limits of every value.

Pure records: no file is read or written here, and no field is guessed where one is missing.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from tpe_core.intervention import Intervention, Method, Replacement, Steering
from tpe_core.text import printable_token

__all__ = [
    "KIND",
    "SCHEMA",
    "ArraysFile",
    "MadeOn",
    "Manifest",
    "Measured",
    "PostRecord",
    "SteeredToken",
]

KIND = "tpe.intervention"
SCHEMA = 1


def _encodable(value: object) -> object:
    """Prompts and paths from a command line can hold bytes that no file can: they become ``?``."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_encodable)]
Index = Annotated[int, Field(ge=0, lt=2**31)]
Size = Annotated[int, Field(gt=0, lt=2**31)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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
    ratio: float = Field(gt=0)
    method: Method


class PostRecord(_Record):
    """What lies between the head product and the logits: its kind, scale and soft cap."""

    kind: str
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


class Measured(_Record):
    """What the edit did where it was tried: divergences in nats."""

    text: Text
    corpus_fingerprint: Sha256
    positions: Annotated[int, Field(ge=0)]
    prompt: Text
    kl: float | None
    js: float | None


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


class Manifest(_Record):
    """An intervention, what it was made on and how it was measured.

    `pruned` ascends, so that arrays line up with it; `arrays` is filled in when the manifest is written.
    """

    schema_version: int = Field(default=SCHEMA, ge=SCHEMA, le=SCHEMA, alias="schema")
    kind: Literal["tpe.intervention"] = "tpe.intervention"
    pruned: tuple[Index, ...]
    replacement: Replacement
    steering: tuple[SteeredToken, ...]
    made_on: MadeOn
    measured: Measured | None
    versions: dict[Text, Text]  # of tpe, torch and transformers
    created: str  # ISO 8601 in UTC
    arrays: ArraysFile | None = None

    @field_validator("pruned")
    @classmethod
    def _ascends(cls, dims: tuple[int, ...]) -> tuple[int, ...]:
        if any(low >= high for low, high in pairwise(dims)):
            raise ValueError("must list every dimension once, in ascending order")
        return dims

    @field_validator("steering")
    @classmethod
    def _is_unique(cls, entries: tuple[SteeredToken, ...]) -> tuple[SteeredToken, ...]:
        if len({entry.token_id for entry in entries}) < len(entries):
            raise ValueError("must steer every token_id once")
        return entries

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

    def intervention(self) -> Intervention:
        """The edit itself."""
        steering = tuple(Steering(entry.token_id, float(entry.ratio), entry.method) for entry in self.steering)
        return Intervention(self.pruned, self.replacement, steering)

    def needed_arrays(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the float64 arrays that applying this edit needs."""
        needed: dict[str, tuple[int, ...]] = {}
        if self.pruned and self.replacement != "zero":
            needed["replacement_values"] = (len(self.pruned),)
        if self.pruned and self.replacement == "least-squares":
            needed["reconstruction"] = (len(self.pruned), self.made_on.hidden_size - len(self.pruned))
        for method in sorted({entry.method for entry in self.steering} - {"bias"}):
            needed[f"direction.{method}"] = (self.made_on.hidden_size,)
        return needed
