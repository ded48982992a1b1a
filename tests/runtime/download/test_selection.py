"""Which files of a place are a model's: by where `genai_config.json` lies, and never outside of a folder."""

from __future__ import annotations

import re

import pytest

from foundry_runtime.download.sources._selection import (
    check_names,
    files_below,
    folder_asked,
    model_folders,
)
from foundry_runtime.download.sources.api import DownloadFailed

CONFIG = "genai_config.json"


@pytest.mark.parametrize(
    ("path", "folder"),
    [
        ("", ""),
        ("/", ""),
        ("onnx", "onnx"),
        ("onnx/cpu/", "onnx/cpu"),
        ("onnx\\cpu", "onnx/cpu"),
        ("Ä b/v1", "Ä b/v1"),
    ],
)
def test_a_path_names_a_folder(path: str, folder: str) -> None:
    assert folder_asked(path, where="hf://a/b") == folder


@pytest.mark.parametrize("path", ["/etc", "../x", "a/../../b", "a//b", "C:\\x", "a/./b", "a\0", "con", "a "])
def test_a_path_never_leads_elsewhere(path: str) -> None:
    expected = f"Path: expected a path below hf://a/b, got {path}"
    with pytest.raises(DownloadFailed, match=f"^{re.escape(expected)}$"):
        folder_asked(path, where="hf://a/b")


@pytest.mark.parametrize(
    "name",
    ["../evil", "..\\evil", "a/../evil", "a\\..\\evil", "/etc/passwd", "\\evil", "C:/evil", "c:evil", "a/.."],
)
def test_a_name_that_leads_out_is_refused_wherever_it_stands(name: str) -> None:
    expected = f"the place: expected names within a folder, got {name!r}"
    with pytest.raises(DownloadFailed, match=f"^{re.escape(expected)}$"):
        check_names(["fine", name], where="the place")


def test_names_with_dots_are_no_harm() -> None:
    check_names(["...", "a..b/c..", ".hidden", "ab:c", "1.x"], where="the place")


@pytest.mark.parametrize(
    ("names", "below", "folders"),
    [
        ([CONFIG, "v1/" + CONFIG], "", [""]),
        (["v3/" + CONFIG, "README.md"], "", ["v3"]),
        ([f"v{number}/{CONFIG}" for number in (10, 2, 1)], "", ["v1", "v2", "v10"]),
        (["a/b/" + CONFIG, "z/" + CONFIG], "", ["z"]),
        (["cpu/int4/" + CONFIG, "gpu/" + CONFIG], "cpu", ["cpu/int4"]),
        (["cpu/" + CONFIG, "cpu-x/" + CONFIG], "cpu", ["cpu"]),
    ],
)
def test_the_highest_folders_with_a_configuration_are_models(
    names: list[str], below: str, folders: list[str]
) -> None:
    assert model_folders(names, below, where="there") == folders


@pytest.mark.parametrize(
    ("names", "below", "text"),
    [
        ([], "", "there: expected a folder with genai_config.json, got none: there are no files"),
        (
            ["x.gguf", "b_genai_config.json"],
            "",
            "there: expected a folder with genai_config.json, got none among b_genai_config.json, x.gguf, …",
        ),
        ([CONFIG], "x", "there, x: expected a folder with genai_config.json, got none: there are no files"),
    ],
)
def test_where_there_is_no_model_it_is_said_what_there_is(names: list[str], below: str, text: str) -> None:
    with pytest.raises(DownloadFailed, match=f"^{re.escape(text)}$"):
        model_folders(names, below, where="there")


def test_a_models_files_are_those_below_but_hidden_ones_and_other_models() -> None:
    names = [
        "v1/genai_config.json",
        "v1/model.onnx",
        "v1/parts/data",
        "v1/.git/config",
        "v1/.gitattributes",
        "v1/gpu/genai_config.json",
        "v1/gpu/model.onnx",
        "v1/gpu/deep/x",
        "v10/model.onnx",
        "README.md",
    ]
    assert files_below(names, "v1") == {
        "v1/genai_config.json": "genai_config.json",
        "v1/model.onnx": "model.onnx",
        "v1/parts/data": "parts/data",
    }
    top = [CONFIG, "v1/x", ".gitattributes"]
    assert files_below(top, "") == {CONFIG: CONFIG, "v1/x": "v1/x"}
