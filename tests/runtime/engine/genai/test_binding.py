"""The binding: nothing crashes, everything is freed once, and what computes lets go of the interpreter."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from ctypes import byref, c_int64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.engine.genai import binding
from foundry_runtime.engine.genai.binding import GenaiError, Generator, Library, Model, load_library
from foundry_runtime.platform import shared_library_name
from tests.runtime.engine.conftest import Spoil

VERSION = importlib.metadata.version("onnxruntime-genai")

PROMPT = np.arange(3, 40, dtype=np.int32)


def wheel_library() -> Path:
    package = importlib.metadata.distribution("onnxruntime-genai").locate_file("onnxruntime_genai")
    return Path(str(package)) / shared_library_name("onnxruntime-genai")


@pytest.fixture
def model(tiny_folder: Path) -> Iterator[Model]:
    with Model(load_library(), tiny_folder, "{}") as loaded:
        yield loaded


def test_greedy_choosing_and_imposing_the_likeliest_give_the_same_tokens(model: Model) -> None:
    with Generator(model, max_length=80) as native, Generator(model, max_length=80) as imposed:
        native.append(PROMPT)
        imposed.append(PROMPT)
        for _ in range(30):
            token = int(imposed.logits().argmax())
            imposed.choose(token, 380)
            assert native.next_token() == token


def test_an_imposed_token_is_the_one_that_is_computed(model: Model) -> None:
    """Appending a token and imposing it lead to the same next logits."""
    with Generator(model, max_length=80) as imposed, Generator(model, max_length=80) as appended:
        imposed.append(PROMPT)
        appended.append(PROMPT)
        for token in (7, 200, 7, 379):
            assert np.array_equal(imposed.logits(), appended.logits())
            imposed.choose(token, 380)
            appended.append(np.array([token], dtype=np.int32))
        assert np.array_equal(imposed.logits(), appended.logits())


def test_logits_are_a_copy(model: Model) -> None:
    with Generator(model, max_length=80) as generator:
        generator.append(PROMPT)
        first = generator.logits()
        kept = first.copy()
        first[:] = 0
        assert np.array_equal(generator.logits(), kept)
        assert first.shape == (380,)


def test_the_logits_of_several_positions_give_the_last_ones(model: Model) -> None:
    library = model.library
    values = np.arange(12, dtype=np.float32)
    tensor = binding._Tensor(library)
    shape = (c_int64 * 3)(1, 3, 4)
    library["create_tensor"](values.ctypes.data, shape, 3, 1, byref(tensor._pointer))
    with tensor:
        assert binding._last_row(library, tensor).tolist() == [8, 9, 10, 11]


def test_logits_of_another_type_are_an_error(model: Model) -> None:
    library = model.library
    values = np.arange(4, dtype=np.int64)
    tensor = binding._Tensor(library)
    library["create_tensor"](values.ctypes.data, (c_int64 * 2)(1, 4), 2, 7, byref(tensor._pointer))
    with tensor, pytest.raises(GenaiError) as caught:
        binding._last_row(library, tensor)
    assert str(caught.value) == "expected float32 logits, got a tensor of type 7 and shape [1, 4]"


@pytest.mark.parametrize(
    "use",
    [
        lambda generator: generator.append(PROMPT),
        lambda generator: generator.next_token(),
        lambda generator: generator.logits(),
        lambda generator: generator.choose(3, 380),
    ],
    ids=["append", "next_token", "logits", "choose"],
)
def test_a_closed_generator_says_so_instead_of_crashing(
    model: Model, use: Callable[[Generator], object]
) -> None:
    generator = Generator(model, max_length=80)
    generator.append(PROMPT)
    generator.choose(int(generator.logits().argmax()), 380)
    generator.close()
    generator.close()
    with pytest.raises(LocalProtocolError) as caught:
        use(generator)
    assert str(caught.value) == "this generator is closed"


def test_a_closed_model_makes_no_generators(tiny_folder: Path) -> None:
    model = Model(load_library(), tiny_folder, "{}")
    model.close()
    model.close()
    with pytest.raises(LocalProtocolError) as caught:
        Generator(model, max_length=10)
    assert str(caught.value) == "this model is closed"


def test_a_generator_outlives_its_model(tiny_folder: Path) -> None:
    model = Model(load_library(), tiny_folder, "{}")
    with Generator(model, max_length=80) as generator:
        model.close()
        generator.append(PROMPT)
        assert 0 <= generator.next_token() < 380


def test_the_folders_own_search_options_do_not_bend_the_choice(tiny_folder: Path, spoiled: Spoil) -> None:
    def tokens(folder: Path) -> list[int]:
        with Model(load_library(), folder, "{}") as model, Generator(model, max_length=80) as generator:
            generator.append(PROMPT)
            return [generator.next_token() for _ in range(20)]

    folder = spoiled()
    config = folder / "genai_config.json"
    bent = '"do_sample": true, "temperature": 3.0, "repetition_penalty": 5.0, "min_length": 500'
    config.write_text(config.read_text().replace('"search": {', f'"search": {{{bent}, '))
    assert tokens(folder) == tokens(tiny_folder)


def test_a_native_error_is_told_in_one_line_of_its_own_words(model: Model, tmp_path: Path) -> None:
    with pytest.raises(GenaiError) as caught:
        Model(load_library(), tmp_path, "{}")
    assert str(caught.value) == f"Error opening {tmp_path / 'genai_config.json'}"
    with Generator(model, max_length=10) as generator, pytest.raises(GenaiError) as caught:
        generator.append(PROMPT)
    assert str(caught.value) == ("input_ids size (37) + current sequence length (0) exceeds max length (10)")


def test_a_missing_function_is_named_with_the_installed_version(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {**binding._COMPUTING, "a": ("OgaTeleport", ()), "b": ("OgaLevitate", ())}
    monkeypatch.setattr(binding, "_COMPUTING", rows)
    with pytest.raises(GenaiError) as caught:
        Library(wheel_library())
    assert str(caught.value) == (
        f"{wheel_library()} (onnxruntime-genai {VERSION}) has no function OgaLevitate, OgaTeleport: "
        "this version cannot be used"
    )


def test_a_library_that_cannot_be_loaded_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise importlib.metadata.PackageNotFoundError

    path = tmp_path / "libnothing.so"
    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(GenaiError) as caught:
        Library(path)
    assert str(caught.value).startswith(f"{path} (onnxruntime-genai, version unknown) cannot be loaded: ")


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    load_library.cache_clear()
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    with pytest.raises(GenaiError) as caught:
        load_library()
    assert str(caught.value).startswith(
        "onnxruntime-genai cannot be imported (install foundry-proto[genai]): "
    )


def test_what_computes_lets_go_of_the_interpreter_and_what_looks_does_not() -> None:
    holds = ctypes.PyDLL._func_flags_ & ~ctypes.CDLL._func_flags_
    library = load_library()

    def locked(name: str) -> bool:
        kind: Any = type(library[name])
        return bool(kind._flags_ & holds)

    for name in (*binding._COMPUTING, *binding._FREEING):
        assert not locked(name), name
    for name in (*binding._LOOKING, *binding._FREEING_LITTLE):
        assert locked(name), name


PROGRAM = """
import os, sys
from pathlib import Path
import numpy as np
from foundry_runtime.engine.genai.binding import Generator, Model, load_library

model = Model(load_library(), Path(sys.argv[1]), "{}")
generator = Generator(model, max_length=40)
generator.append(np.arange(3, 20, dtype=np.int32))
generator.choose(int(generator.logits().argmax()), 380)
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
"""


def test_a_program_that_frees_nothing_ends_in_silence_and_leaves_no_telemetry(
    tiny_folder: Path, tmp_path: Path
) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_folder)],
        capture_output=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert [path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower()] == []
