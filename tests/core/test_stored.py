"""What the cache holds and what pruning removes: never a stranger's file, never what is being written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tpe_core.store import Store, default_root
from tpe_core.stored import StoredEntry, prune_entries, stored_entries

DAY = 86_400.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def put(store: Store, key: str, age: float = 0.0, *, kind: str = "detection", of: str = "gpt2") -> Path:
    """An entry that was last used `age` days ago."""
    assert store.save(key, {"values": np.arange(100)}, {"note": key}, kind=kind, of=of)
    return aged(store.path(key), age)


def aged(path: Path, days: float) -> Path:
    then = time.time() - days * DAY
    os.utime(path, (then, then))
    return path


def keys(entries: tuple[StoredEntry, ...] | list[StoredEntry]) -> list[str]:
    return [entry.key for entry in entries]


def dead_pid() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


A, B, C = "aa" * 8, "bb" * 8, "cc" * 8


def test_entries_are_listed_by_last_use_with_what_they_say_of_themselves(store: Store) -> None:
    put(store, A, 3, kind="detection", of="gpt2")
    put(store, B, 1, kind="partial detection", of="a/b")
    put(store, C, 2, kind="", of="")
    found = stored_entries(store.root)
    assert [(each.key, each.kind, each.of, each.state) for each in found] == [
        (B, "partial detection", "a/b", "partial"),
        (C, "", "", "whole"),
        (A, "detection", "gpt2", "whole"),
    ]
    assert [each.size for each in found] == [store.path(key).stat().st_size for key in (B, C, A)]


def test_what_an_entry_says_of_itself_changes_nothing_of_what_is_loaded(store: Store) -> None:
    put(store, A)
    entry = store.load(A)
    assert entry is not None
    assert entry[0]["values"].tolist() == list(range(100))
    assert entry[1] == {"note": A}


def test_a_name_that_is_no_unicode_is_stored_all_the_same(store: Store) -> None:
    put(store, A, of="/models/\udcff.gguf")
    assert stored_entries(store.root)[0].of == "/models/?.gguf"


def test_an_entry_of_an_older_version_stays_whole_and_says_nothing(store: Store) -> None:
    from safetensors.numpy import save

    payload = save({"values": np.arange(3)}, metadata={"meta": "{}"})
    import hashlib

    store.root.mkdir()
    store.path(A).write_bytes(b"tpe-store 1 %s\n" % hashlib.sha256(payload).hexdigest().encode() + payload)
    (found,) = stored_entries(store.root)
    assert (found.kind, found.of, found.state) == ("", "", "whole")
    assert store.load(A) is not None


def test_using_an_entry_is_its_last_use(store: Store) -> None:
    put(store, A, 40)
    put(store, B, 40)
    store.load(A)
    assert keys(prune_entries(store.root, older_than=30 * DAY).removed) == [B]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:80],
        lambda data: b"",
        lambda data: b"x" + data,
        lambda data: data + b"0",
    ],
    ids=["short", "header alone", "empty", "shifted", "long"],
)
def test_a_broken_entry_is_listed_as_broken_and_goes_with_any_pruning(store: Store, damage) -> None:  # type: ignore[no-untyped-def]
    put(store, A)
    path = put(store, B)
    path.write_bytes(damage(path.read_bytes()))
    assert {each.key: each.state for each in stored_entries(store.root)} == {A: "whole", B: "broken"}
    assert keys(prune_entries(store.root).removed) == [B]
    assert keys(stored_entries(store.root)) == [A]


def test_an_entry_of_another_layout_goes_by_its_age_alone(store: Store) -> None:
    path = put(store, A)
    path.write_bytes(path.read_bytes().replace(b"tpe-store 1 ", b"tpe-store 7 ", 1))
    aged(path, 2)
    assert stored_entries(store.root)[0].state == "another version"
    assert prune_entries(store.root, older_than=3 * DAY).removed == ()
    assert keys(prune_entries(store.root, older_than=DAY).removed) == [A]


def test_by_size_what_was_used_longest_ago_goes_first(store: Store) -> None:
    sizes = {key: put(store, key, age).stat().st_size for key, age in ((A, 3), (B, 9), (C, 5))}
    pruned = prune_entries(store.root, max_size=sizes[A])
    assert keys(pruned.removed) == [B, C]
    assert pruned.freed == sizes[B] + sizes[C]
    assert keys(pruned.left) == [A]
    assert prune_entries(store.root, max_size=sizes[A]).removed == ()


def test_a_dry_run_says_the_same_and_removes_nothing(store: Store) -> None:
    put(store, A, 40)
    put(store, B)
    dry = prune_entries(store.root, older_than=DAY, dry_run=True)
    assert keys(stored_entries(store.root)) == [B, A]
    wet = prune_entries(store.root, older_than=DAY)
    assert dry == wet
    assert keys(stored_entries(store.root)) == [B]


def test_a_partial_result_of_the_last_day_stays_unless_everything_goes(store: Store) -> None:
    put(store, A, 0.5, kind="partial detection")
    put(store, B, 1.5, kind="partial detection")
    put(store, f"{C}-partial", 0.5, kind="")
    pruned = prune_entries(store.root, older_than=0.0, max_size=0)
    assert keys(pruned.removed) == [B]
    assert sorted(keys(prune_entries(store.root, everything=True).removed)) == [A, f"{C}-partial"]


def test_what_a_living_process_writes_stays_with_the_entry_it_will_replace(store: Store) -> None:
    path = put(store, A, 40)
    put(store, B, 40)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-0123abcd.tmp")
    temporary.write_bytes(b"half")
    assert {each.path: each.state for each in stored_entries(store.root)}[temporary] == "being written"
    assert keys(prune_entries(store.root, everything=True).removed) == [B]
    assert path.exists()
    assert temporary.exists()


def test_what_a_dead_process_left_goes_after_a_day_or_with_everything(store: Store) -> None:
    store.root.mkdir()
    pid = dead_pid()
    old, new = (store.root / f".{key}.tpe.{pid}-0123abcd.tmp" for key in (A, B))
    old.write_bytes(b"half")
    new.write_bytes(b"half")
    aged(old, 2)
    assert [each.path for each in prune_entries(store.root).removed] == [old]
    assert [each.path for each in prune_entries(store.root, everything=True).removed] == [new]


def test_a_days_old_leftover_whose_number_another_process_has_now_goes_as_well(store: Store) -> None:
    store.root.mkdir()
    old = store.root / f".{A}.tpe.{os.getpid()}-0123abcd.tmp"
    old.write_bytes(b"half")
    aged(old, 2)
    assert [each.path for each in prune_entries(store.root).removed] == [old]


def test_nothing_but_tpes_own_files_is_listed_or_removed(store: Store, tmp_path: Path) -> None:
    put(store, A)
    outside = tmp_path / "precious.tpe"
    outside.write_text("mine")
    names = ["notes.txt", f"{B}.tpe.bak", "precious.tpe", ".hidden", f"{B.upper()}.tpe", f".{B}.tpe.x-0123abcd.tmp"]
    for name in names:
        (store.root / name).write_text("mine")
    (store.root / f"{C}.tpe").symlink_to(outside)
    (store.root / f"{'dd' * 8}.tpe").mkdir()
    assert keys(prune_entries(store.root, everything=True).removed) == [A]
    assert outside.read_text() == "mine"
    assert sorted(path.name for path in store.root.iterdir()) == sorted([*names, f"{C}.tpe", f"{'dd' * 8}.tpe"])


def test_an_entry_that_is_used_while_it_is_pruned_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpe_core import stored

    put(store, A, 40)
    listed = stored.stored_entries(store.root)
    store.load(A)
    monkeypatch.setattr(stored, "stored_entries", lambda root: listed)
    pruned = prune_entries(store.root, older_than=DAY)
    assert pruned.removed == ()
    assert "meanwhile" in pruned.refused[0][1]
    assert store.load(A) is not None


def test_downloaded_heads_beside_the_results_are_listed_and_pruned() -> None:
    import safetensors.numpy

    folder = default_root().parent / "heads"
    folder.mkdir(parents=True)
    said = {"kind": "head", "of": "a/b@12345678"}
    (folder / f"{'ab' * 32}.safetensors").write_bytes(safetensors.numpy.save({"head": np.ones((3, 2))}, said))
    (folder / "mine.safetensors").write_bytes(b"")
    put(Store(), A)
    assert sorted((each.kind, each.of) for each in stored_entries()) == [
        ("detection", "gpt2"),
        ("head", "a/b@12345678"),
    ]
    assert len(prune_entries(everything=True).removed) == 2
    assert [path.name for path in folder.iterdir()] == ["mine.safetensors"]


def test_no_folder_is_an_empty_cache(tmp_path: Path) -> None:
    assert stored_entries(tmp_path / "none") == []
    assert prune_entries(tmp_path / "none", everything=True).removed == ()
