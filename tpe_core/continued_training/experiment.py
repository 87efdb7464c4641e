"""The experiment of `tpe train-on`: every scenario, seed, mask and variant, one folder a run, one JSON for all.

A folder belongs to one experiment. Runs that are done are read, the one under way is taken up, the others follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tpe_core.analysis import analyze
from tpe_core.continued_training.batches import Batches, check_blocks
from tpe_core.continued_training.folder import RESULT, SETTINGS, read_record, run_folder
from tpe_core.continued_training.options import SCENARIOS, UNEDITED, Scenario, TrainOnOptions
from tpe_core.continued_training.results import ContinuedTraining, Key, RunRecord
from tpe_core.continued_training.runs import Run, clear_states, run_steps, save_record
from tpe_core.continued_training.training import written
from tpe_core.continued_training.variants import Trained, needs_detection, random_edit, trained_copy
from tpe_core.corpus.corpus import BuiltinCode, Corpus, TextSource, text_source
from tpe_core.detection.detection import Detection
from tpe_core.detection.reading import corpus_spec
from tpe_core.edits.edit import ResolvedEdit
from tpe_core.errors import ModelError, TpeError
from tpe_core.json_text import json_text, nulled, parse_json
from tpe_core.manifest.manifest import check_model, read_edit
from tpe_core.models.loading import load_steps
from tpe_core.models.model import LanguageModel
from tpe_core.outputs import shown_path
from tpe_core.progress import Progress, Steps, relayed
from tpe_core.store import Store, write_file

__all__ = ["train_on"]


def train_on(options: TrainOnOptions, model: LanguageModel | None = None) -> Steps[ContinuedTraining]:
    """Train on from an edited and from the unedited model on the same batches, and measure: a job.

    Every run has its folder under ``options.out``, and what is known so far stands there in ``train-on.json``; the
    same is the `partial` of the job's steps. Stopped and called again it goes on from the last saved step. One seed
    gives the same runs again on one thread. A run whose loss is not finite ends with a reason, and the others follow.

    Raises `TpeError` where the folder holds another experiment or cannot be written, `ManifestError` for a mask of
    another model, `CorpusError` where a text is too short for one step.

    Args:
        options: What to train, on what, for how long.
        model: A model that is loaded already.

    Returns:
        A job; `run` drives it to a `ContinuedTraining`.

    Example:
        >>> path = live.export(Path("mask.json"), tpe.Intervention((3, 14)), "Return the")
        >>> options = tpe.TrainOnOptions(
        ...     tpe.RunOptions("demo", text=analysis.source.files), masks=(path,), out=Path("runs"),
        ...     variants=("kept",), seeds=1, steps=1, batch=1, evaluated=256,
        ... )
        >>> result = tpe.run(tpe.train_on(options, model))
        >>> [run.variant for run in result.runs]
        ['unedited', 'kept']
    """
    edits = {path.stem: read_edit(path) for path in options.masks}
    _check_place(options.out)
    _sources(options)  # what is missing is said before a model is loaded
    if model is None:
        model = yield from load_steps(options.run)
    if model.task != "causal":
        raise ModelError(f"{model.name} is {model.task}: only causal language models can be trained on here.")
    for manifest, _ in edits.values():
        check_model(manifest, model)
    experiment = _Experiment(options=options, model=model, edits={name: edit for name, (_, edit) in edits.items()})
    return (yield from experiment.steps())


def _sources(options: TrainOnOptions) -> dict[str, TextSource]:
    """The texts by what scenarios call them. Raises `CorpusError` where one is not there."""
    given = options.run
    sources: dict[str, TextSource] = {
        "own": text_source(given.text, text_field=given.text_field, offline=given.offline),
        "other": text_source(options.ood) if options.ood else BuiltinCode(),
    }
    if options.instructions:
        sources["instructions"] = text_source(options.instructions)
    return sources


def _check_place(folder: Path) -> None:
    """Raise `TpeError` where a folder holds other things than an experiment, or cannot be one."""
    try:
        other = None if (folder / SETTINGS).exists() else next(folder.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise TpeError(
            f"{shown_path(folder)} cannot hold the runs ({error.strerror or error}): choose another folder."
        ) from error
    if other is not None:
        raise TpeError(
            f"{shown_path(folder)} holds no experiment and is not empty ({other.name}): choose another folder."
        )


@dataclass(kw_only=True)
class _Experiment:
    """An experiment under way."""

    options: TrainOnOptions
    model: LanguageModel
    edits: Mapping[str, ResolvedEdit]  # by mask
    records: dict[Key, RunRecord] = field(default_factory=dict)
    texts: dict[str, Corpus] = field(default_factory=dict)  # trained on, by what a scenario reads
    measured: dict[str, Corpus] = field(default_factory=dict)  # by domain
    warnings: list[str] = field(default_factory=list)
    detection: Detection | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def keys(self) -> list[Key]:
        """The runs in the order in which they are trained: the unedited one before those compared with it."""
        keys: list[Key] = []
        for scenario in self.options.scenarios:
            for seed in range(self.options.seeds):
                keys.append((scenario, "", UNEDITED, seed))
                keys += [
                    (scenario, name, variant, seed)
                    for name, edit in self.edits.items()
                    for variant in self.options.variants
                    if variant != "random" or edit.removed
                ]
        return keys

    def steps(self) -> Steps[ContinuedTraining]:
        yield from self._read()
        keys = self.keys()
        self._claim(keys)
        for key in keys:
            saved = read_record(run_folder(self.options.out, key))
            if saved is not None:
                self.records[key] = saved[0]
        for at, key in enumerate(keys):
            job = self._run(key)
            record = yield from relayed(job, lambda event, at=at, key=key: self._told(event, at, key))  # type: ignore[misc]
            self.records[key] = record
            self._write()
            scenario, _, _, seed = key
            if at + 1 == len(keys) or keys[at + 1][0::3] != (scenario, seed):
                clear_states(run_folder(self.options.out, (scenario, "", UNEDITED, seed)))
        return self.result()

    def result(self) -> ContinuedTraining:
        """What is known by now."""
        keys = self.keys()
        return ContinuedTraining(
            model=self.model.name,
            settings=self.settings,
            runs=tuple(self.records[key] for key in keys if key in self.records),
            planned=len(keys),
            plan=tuple(keys),
            warnings=tuple(self.warnings),
        )

    def _told(self, event: Progress, at: int, key: Key) -> Progress:
        """A run's progress as one of the experiment's."""
        if isinstance(event.partial, RunRecord):
            self.records[key] = event.partial
            return Progress("train on", at, len(self.keys()), note=event.note, partial=self.result())
        return event

    def _read(self) -> Steps[None]:
        """Tokenise every text: its blocks to train on, those to measure on."""
        options, domains = self.options, {"own": "heldout", "other": "ood", "instructions": "instructions"}
        wanted = {SCENARIOS[name].reads for name in options.scenarios}
        for reads, source in _sources(self.options).items():
            length = corpus_spec(source, self.model, 1).block_length
            if reads in wanted:
                blocks = options.steps * options.batch * options.seeds
                self.texts[reads] = yield from corpus_spec(source, self.model, blocks * length, "detect").corpus()
                check_blocks(self.texts[reads], options.batch)
                self._warn_of_repeats(self.texts[reads])
            spec = corpus_spec(source, self.model, options.evaluated, "heldout")
            self.measured[domains[reads]] = yield from spec.corpus()
        if any(needs_detection(edit, self.model, options.variants) for edit in self.edits.values()):
            store = Store(on_problem=self.warnings.append) if options.run.cache else None
            analysis = yield from analyze(options.run, store, model=self.model)
            self.detection = analysis.detection

    def _warn_of_repeats(self, corpus: Corpus) -> None:
        wanted, there = self.options.steps * self.options.batch, len(corpus.blocks)
        if there < wanted:
            self.warnings.append(
                f"the text ({corpus.label}) has {there:,} blocks to train on and a run takes {wanted:,}: "
                f"it is read {wanted / there:.1f} times."
            )

    def _claim(self, keys: list[Key]) -> None:
        """Make the folder this experiment's. Raises `TpeError` where it is another's, or cannot be made."""
        options, folder = self.options, self.options.out
        files = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in options.masks}
        self.settings = {
            "model": self.model.name,
            "revision": self.model.revision,
            "head_sha256": self.model.head.sha256,
            "masks": files,
            "removed": {name: len(edit.removed) for name, edit in self.edits.items()},
            "hidden_size": self.model.head.hidden_size,
            "scenarios": list(options.scenarios),
            "variants": list(options.variants),
            "seeds": options.seeds,
            "steps": options.steps,
            "every": options.every,
            "batch": options.batch,
            "tokens_per_step": options.batch * next(iter(self.texts.values())).block_length,
            "evaluated": options.evaluated,
            "learning_rate": options.learning_rate,
            "lora": options.lora,
            "texts": {reads: corpus.label for reads, corpus in self.texts.items()},
            "measured_on": {domain: corpus.label for domain, corpus in self.measured.items()},
            "corpora": {
                **{reads: corpus.fingerprint for reads, corpus in self.texts.items()},
                **{domain: corpus.fingerprint for domain, corpus in self.measured.items()},
            },
        }
        mine = json_text({**self.settings, "runs": [list(key) for key in keys]}, 1).encode()
        path = folder / SETTINGS
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                write_file(path, [mine])
            recorded = path.read_bytes()
        except OSError as error:
            raise TpeError(
                f"{shown_path(folder)} cannot hold the runs ({error.strerror or error}): choose another folder."
            ) from error
        if recorded != mine:
            raise TpeError(
                f"{shown_path(folder)} holds another experiment ({_difference(recorded, mine)}): choose another "
                "folder, or remove this one."
            )

    def _write(self) -> None:
        with written(self.options.out):
            write_file(self.options.out / RESULT, [json_text(nulled(self.result().to_dict()), 1).encode()])

    def _edit(self, key: Key) -> ResolvedEdit | None:
        """The edit of a run: a random variant's is its own."""
        _, mask, variant, seed = key
        if variant == UNEDITED:
            return None
        edit = self.edits[mask]
        return random_edit(edit, seed, self.detection) if variant == "random" else edit

    def _twin(self, key: Key, edit: ResolvedEdit | None) -> RunRecord | None:
        """The finished run of the same random mask, drawn for another mask of the same size; None where none is."""
        scenario, mask, variant, seed = key
        for name in self.edits:
            other = self.records.get((scenario, name, variant, seed)) if name != mask else None
            drawn = None if other is None else self._edit((scenario, name, variant, seed))
            if other is None or drawn is None or edit is None or drawn.intervention != edit.intervention:
                continue
            if other.stopped or (other.points and other.points[-1].step == self.options.steps):
                points = tuple(replace(each, masks={mask: each.masks[name]}) for each in other.points)
                return replace(other, mask=mask, points=points, seconds=0.0, note=f"the run of {name}: the same draw")
        return None

    def _run(self, key: Key) -> Steps[RunRecord]:
        name, mask, variant, seed = key
        scenario, options, edit = SCENARIOS[name], self.options, self._edit(key)
        batches = Batches(self.texts[scenario.reads], steps=options.steps, batch=options.batch, seed=seed)
        unedited = None if variant == UNEDITED else run_folder(options.out, (name, "", UNEDITED, seed))
        planned = RunRecord(scenario=name, mask=mask, variant=variant, seed=seed)
        if unedited is not None and (self.records[name, "", UNEDITED, seed]).stopped:
            first = self.records[name, "", UNEDITED, seed].stopped
            return RunRecord(
                scenario=name, mask=mask, variant=variant, seed=seed,
                stopped=f"not trained, for the unedited run has no end to compare with: {first}",
            )  # fmt: skip
        if variant == "random" and (twin := self._twin(key, edit)) is not None:
            save_record(run_folder(options.out, key), twin, [])
            return twin
        run = Run(
            record=planned,
            folder=run_folder(options.out, key),
            batches=batches,
            corpora=self.measured,
            masks=self.edits if edit is None else {mask: edit},
            learning_rate=options.learning_rate * scenario.rate,
            unedited=unedited,
        )
        return (yield from run_steps(run, options, lambda: self._made(scenario, variant, edit, seed)))

    def _made(self, scenario: Scenario, variant: str, edit: ResolvedEdit | None, seed: int) -> Steps[Trained]:
        rank = self.options.rank(scenario)
        return (yield from trained_copy(self.model, variant, edit, rank=rank, seed=seed, detection=self.detection))


def _difference(recorded: bytes, mine: bytes) -> str:
    """The first setting that differs, with both values."""
    try:
        before, now = (parse_json(each) for each in (recorded, mine))
        name = next(name for name in {**before, **now} if before.get(name) != now.get(name))
    except (ValueError, StopIteration, AttributeError):
        return "its settings cannot be read"
    if isinstance(before.get(name), dict | list) or isinstance(now.get(name), dict | list):
        return f"its {name} differ"
    return f"its {name} is {before.get(name)}, not {now.get(name)}"
