"""Data sets of the hub as text, streamed through the `datasets` library: only what is read is downloaded.

It names a data set by the commit that its revision is, so that the same name and the same text go together.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any
from urllib.parse import parse_qsl

from tpe_core.corpus.chats import ChatTemplate
from tpe_core.corpus.compression import needs
from tpe_core.corpus.records import FieldChoice
from tpe_core.corpus.text_source import TextSource
from tpe_core.errors import CorpusError, reason_of

__all__ = ["PREFIX", "HubDataset"]

PREFIX = "hf://"
NAME = re.compile(
    r"hf://datasets/(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^/?]+))?(?:/(?P<files>[^?]+))?(?:\?(?P<query>.*))?"
)
FORM = "hf://datasets/OWNER/NAME[@REVISION][/FILE][?config=CONFIG&split=SPLIT]"

Rows = Iterator[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class HubDataset(TextSource):
    """One split of a data set of the hub, a document for every record."""

    name: str  # "owner/name"
    _: KW_ONLY
    revision: str | None = None
    files: str | None = None  # of the repository, with wildcards; None: what the data set says of itself
    config: str | None = None
    split: str = "train"
    text_field: str | None = None
    offline: bool = False
    template: ChatTemplate | None = None
    _commits: list[str] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def parse(cls, address: str, text_field: str | None = None, offline: bool = False) -> HubDataset:
        """What an address names. Raises `CorpusError` where it is none, or the library is missing."""
        found = NAME.fullmatch(address)
        query = dict(parse_qsl(found["query"] or "", keep_blank_values=True)) if found else {}
        if found is None or not query.keys() <= {"config", "split"} or not all(query.values()):
            raise CorpusError(f"{address} names no data set of the hub: write {FORM}.")
        needs("datasets", "a data set of the hub")
        return cls(
            found["name"],
            revision=found["revision"],
            files=found["files"],
            config=query.get("config"),
            split=query.get("split", "train"),
            text_field=text_field,
            offline=offline,
        )

    @property
    def label(self) -> str:
        """The data set's name, its revision and what of it is read."""
        parts = [self.name, f"@{self.revision}" if self.revision else "", f"/{self.files}" if self.files else ""]
        named = ", ".join(filter(None, [self.config, self.split]))
        return f"{''.join(parts)} ({named})"

    def fingerprint(self) -> str:
        """sha256 of the commit, the split and the field: what the text is, without reading it."""
        facts = [self.name, self._commit(), self.files, self.config, self.split, self.text_field]
        facts += [] if self.template is None else [self.template.fingerprint]
        return hashlib.sha256(repr(("data set 1", *facts)).encode()).hexdigest()

    def for_tokenizer(self, tokenizer: Any) -> HubDataset:
        """The same data set, chat records written by the tokenizer's chat template."""
        return replace(self, template=ChatTemplate(tokenizer))

    def pieces(self) -> Iterator[tuple[str, bool]]:
        """Every record."""
        choice = FieldChoice(self.label, self.text_field, None if self.template is None else self.template.render)
        number = 0
        rows = self._asked(self._rows)
        while (row := self._asked(lambda: next(rows, None), f" after record {number}")) is not None:
            number += 1
            if text := choice.text(dict(row), f"record {number}"):
                yield text, True

    def _rows(self) -> Rows:
        import datasets

        rows = datasets.load_dataset(
            self.name,
            self.config,
            data_files=self.files,
            split=self.split,
            revision=self._commit(),
            streaming=True,
        )
        return iter(rows)

    def _commit(self) -> str:
        """The commit that the revision is now, asked for once."""
        if not self._commits:
            if self.offline or os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
                raise CorpusError(
                    f"the data set {self.label} is streamed from the hub, which may not be asked: "
                    "leave --offline out, or save it with datasets' save_to_disk and name that folder."
                )
            from huggingface_hub import HfApi

            found = self._asked(lambda: HfApi().dataset_info(self.name, revision=self.revision))
            self._commits.append(str(found.sha))
        return self._commits[0]

    def _asked(self, ask: Callable[[], Any], where: str = "") -> Any:
        """What the hub answers, its errors as one sentence."""
        try:
            return ask()
        except CorpusError:
            raise
        except Exception as error:  # of a dozen libraries: network, hub, file systems, readers
            raise CorpusError(
                f"the data set {self.label} cannot be read{where} ({reason_of(error).rstrip('.')}): check the name, "
                "the revision, the split and the network."
            ) from error
