"""The cache of results: what it gives back, and that nothing on a disk can hurt or mislead it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tpe_core import store as store_module
from tpe_core.errors import StoreWarning
from tpe_core.store import SCHEMA, Store, default_root

KEY = "ab" * 16
ARRAYS: dict[str, Any] = {
    "sums": np.arange(12, dtype=np.float64).reshape(3, 4),
    "ids": np.array([1, 2], dtype=np.int64),
    "keys": np.array([2**64 - 1], dtype=np.uint64),
}
META = {"positions": 7, "name": "é\u202e", "nested": {"list": [1, None, 0.5]}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture(autouse=True)
def _strict() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def same(entry: Any, arrays: dict[str, Any] = ARRAYS) -> bool:
    assert entry is not None
    assert list(entry[0]) == list(arrays) or set(entry[0]) == set(arrays)
    return all(
        entry[0][name].dtype == array.dtype
        and np.array_equal(entry[0][name], array)
        and entry[0][name].shape == array.shape
        for name, array in arrays.items()
    )


def test_what_is_saved_comes_back(store: Store) -> None:
    assert store.load(KEY) is None
    assert store.save(KEY, ARRAYS, META)
    entry = store.load(KEY)
    assert same(entry)
    assert entry is not None
    assert entry[1] == META
    entry[0]["sums"][0, 0] = 5  # writable
    assert [path.name for path in store.root.iterdir()] == [f"{KEY}.tpe"]


def test_a_later_save_replaces_and_a_suffix_is_another_entry(store: Store) -> None:
    store.save(KEY, ARRAYS, {"n": 1})
    store.save(KEY, {}, {"n": 2})
    store.save(f"{KEY}-partial", ARRAYS, {"n": 3})
    assert store.load(KEY) == ({}, {"n": 2})
    partial = store.load(f"{KEY}-partial")
    assert partial is not None
    assert partial[1] == {"n": 3}
    store.remove(KEY)
    store.remove(KEY)
    assert store.load(KEY) is None


@given(
    hnp.arrays(
        st.sampled_from(["f4", "f8", "f2", "i8", "i4", "u1", "?", ">f8", ">i4"]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_array_survives(store: Store, array: Any) -> None:
    arrays = {"a": array, "b": array.T}
    assert store.save(KEY, arrays, {})
    entry = store.load(KEY)
    assert entry is not None
    for name, value in arrays.items():
        assert entry[0][name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(entry[0][name], value)


@pytest.mark.parametrize("key", ["", "abc", "../../etc/passwd", "AB" * 16, KEY + "/x", KEY + "-", KEY + "\n", "x" * 32])
def test_keys_are_hexadecimal(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        store.load(key)
    with pytest.raises(ValueError, match="is no key"):
        store.save(key, {}, {})


def test_what_cannot_be_stored_is_refused_before_a_file_is_made(store: Store) -> None:
    with pytest.raises(TypeError, match="cannot be cached"):
        store.save(KEY, {"a": np.array(["text"])}, {})
    with pytest.raises(TypeError):
        store.save(KEY, {}, {"a": {1, 2}})
    assert not store.root.exists()


def test_one_flipped_byte_anywhere_is_noticed(store: Store) -> None:
    store.save(KEY, ARRAYS, META)
    path = store.path(KEY)
    good = path.read_bytes()
    for at in {*range(90), *range(90, len(good), 7), len(good) - 1}:
        bad = bytearray(good)
        bad[at] ^= 0x20
        path.write_bytes(bad)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            entry = store.load(KEY)
        if entry is None and not caught:  # the schema's digit became another number
            assert good[at : at + 1].isdigit()
            assert at < 20
            continue
        assert entry is None, at
        assert [warning.category for warning in caught] == [StoreWarning]
        assert "computed again" in str(caught[0].message)
        assert not path.exists()


@pytest.mark.parametrize("length", [0, 1, 20, 75, 76, 90, -1])
def test_a_truncated_entry_is_noticed(store: Store, length: int) -> None:
    store.save(KEY, ARRAYS, META)
    path = store.path(KEY)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(StoreWarning, match="damaged"):
        assert store.load(KEY) is None
    assert store.load(KEY) is None  # and is gone


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_right_hash_over_nonsense_is_no_entry(store: Store, payload: bytes) -> None:
    import hashlib

    store.root.mkdir(exist_ok=True, parents=True)
    store.path(KEY).write_bytes(b"tpe-store %d %s\n" % (SCHEMA, hashlib.sha256(payload).hexdigest().encode()) + payload)
    with pytest.warns(StoreWarning, match="damaged"):
        assert store.load(KEY) is None


def test_another_schema_is_silently_absent(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SCHEMA", SCHEMA + 1)
    store.save(KEY, ARRAYS, META)
    monkeypatch.setattr(store_module, "SCHEMA", SCHEMA)
    assert store.load(KEY) is None
    assert store.path(KEY).exists()
    assert store.save(KEY, ARRAYS, META)
    assert same(store.load(KEY))


def test_a_root_that_is_a_file_warns_once(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_text("keep me")
    store = Store(root)
    with pytest.warns(
        StoreWarning, match=r"cannot be cached in .*file \(.*\): set TPE_CACHE_DIR .* --no-cache"
    ) as caught:
        assert not store.save(KEY, ARRAYS, META)
    assert len(caught) == 1
    assert not store.save(KEY, ARRAYS, META)  # an error if it warned again
    assert store.load(KEY) is None
    store.remove(KEY)
    assert root.read_text() == "keep me"


@pytest.mark.parametrize("broken", ["fsync", "replace", "open"])
def test_a_full_disk_keeps_the_earlier_entry(store: Store, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    store.save(KEY, ARRAYS, META)
    with monkeypatch.context() as patch:
        patch.setattr(*{"open": (Path, "open")}.get(broken, (os, broken)), full)
        with pytest.warns(StoreWarning, match=r"No space left on device"):
            assert not store.save(KEY, {}, {})
    assert same(store.load(KEY))
    assert len(list(store.root.iterdir())) == 1  # no temporary file is left


def test_an_unreadable_entry_warns_and_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.path(KEY).mkdir(parents=True)
    with pytest.warns(StoreWarning, match="Is a directory"):
        assert store.load(KEY) is None
    with pytest.warns(StoreWarning, match="cannot be cached"):
        assert not store.save(KEY, ARRAYS, META)


def test_a_folder_that_cannot_be_synchronised_is_no_failure(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "open", refuse)
    assert store.save(KEY, ARRAYS, META)


def test_an_interrupted_save_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    store.save(KEY, ARRAYS, META)
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.save(KEY, {}, {})
    assert len(list(store.root.iterdir())) == 1
    assert same(store.load(KEY))


def test_a_killed_save_leaves_the_earlier_entry(store: Store) -> None:
    store.save(KEY, ARRAYS, META)
    code = (
        "import os, signal, sys, pathlib, numpy as np\n"
        "from tpe_core.store import Store\n"
        "os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "Store(pathlib.Path(sys.argv[1])).save(sys.argv[2], {'a': np.zeros(1000)}, {})\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(store.root), KEY], check=False).returncode < 0
    assert same(store.load(KEY))
    (left,) = store.root.glob(".*.tmp")
    store.save(KEY, ARRAYS, META)
    assert left.exists()  # young ones stay
    old = time.time() - 2 * 86_400
    os.utime(left, (old, old))
    living = store.root / f".{KEY}.tpe.{os.getpid()}-0123abcd.tmp"
    foreign = store.root / ".not-ours.tmp"
    for path in (living, foreign):
        path.touch()
        os.utime(path, (old, old))
    store.save(KEY, ARRAYS, META)
    assert not left.exists()
    assert living.exists()
    assert foreign.exists()


def test_two_processes_can_save_the_same_key(store: Store) -> None:
    code = (
        "import sys, pathlib, numpy as np\n"
        "from tpe_core.store import Store\n"
        "store = Store(pathlib.Path(sys.argv[1]))\n"
        "assert all(store.save(sys.argv[2], {'a': np.full(5000, i)}, {'i': i}) for i in range(20))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(store.root), KEY]) for _ in range(2)]
    while any(process.poll() is None for process in processes):
        entry = store.load(KEY)  # a torn entry would warn, and warnings are errors here
        assert entry is None or (entry[0]["a"] == entry[1]["i"]).all()
    assert [process.returncode for process in processes] == [0, 0]


def test_the_environment_names_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TPE_CACHE_DIR", str(tmp_path))
    assert Store().root == tmp_path / "results"
    monkeypatch.setenv("TPE_CACHE_DIR", "")
    assert default_root().name == "results"
    assert "tpe" in default_root().parts[-2]
