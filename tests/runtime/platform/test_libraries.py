"""Each system names shared libraries its own way."""

from __future__ import annotations

import pytest

from foundry_runtime.platform import shared_library_name


@pytest.mark.parametrize(
    ("system", "name"),
    [
        ("linux", "libonnxruntime-genai.so"),
        ("darwin", "libonnxruntime-genai.dylib"),
        ("win32", "onnxruntime-genai.dll"),
    ],
)
def test_each_system_names_libraries_its_own_way(system: str, name: str) -> None:
    assert shared_library_name("onnxruntime-genai", system=system) == name
