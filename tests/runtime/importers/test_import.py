"""A model folder appears complete or not at all, and the engine loads it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnx
import onnxruntime_genai as og
import pytest
from tokenizers import Tokenizer

from foundry_runtime.importers import _folder, _operators, _weights
from foundry_runtime.importers import gguf as importer
from foundry_runtime.importers.gguf import import_gguf
from tests.support.tiny_model import CHAT_TEMPLATE, TinyLlama, tiny_model_folder, write_tiny_gguf

FILES = [
    "chat_template.jinja",
    "genai_config.json",
    "inference_model.json",
    "model.onnx",
    "model.onnx.data",
    "tokenizer.json",
    "tokenizer_config.json",
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.gguf"
    write_tiny_gguf(path)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_folder_holds_all_that_an_engine_and_a_prompt_maker_need(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "models" / "tiny"
    search = {"do_sample": True, "temperature": 0.2, "top_p": 0.9}
    import_gguf(source, target, model_id="tiny-generic-cpu:1", search=search, max_output_tokens=77)
    assert names(target) == FILES
    assert (target / "inference_model.json").read_bytes() == (
        b'{\n  "Name": "tiny-generic-cpu:1",\n  "PromptTemplate": null,\n'
        b'  "maxOutputTokens": 77,\n  "formatVersion": 1\n}\n'
    )
    assert (target / "chat_template.jinja").read_bytes() == CHAT_TEMPLATE.encode()
    config = json.loads((target / "genai_config.json").read_bytes())
    assert config["search"] == {"max_length": 512, "past_present_share_buffer": True, **search}
    model = config["model"]
    assert (model["type"], model["context_length"], model["vocab_size"]) == ("llama", 512, 380)
    assert (model["bos_token_id"], model["eos_token_id"], model["pad_token_id"]) == (1, [2, 0], 2)
    assert json.loads((target / "tokenizer_config.json").read_bytes()) == {
        "add_bos_token": False,
        "add_eos_token": False,
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|im_end|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }


def test_a_file_without_template_and_search_gets_neither(tmp_path: Path) -> None:
    source, target = tmp_path / "tiny.gguf", tmp_path / "tiny"
    write_tiny_gguf(source, fields={"tokenizer.chat_template": None})
    import_gguf(source, target, model_id="tiny:1")
    assert names(target) == [name for name in FILES if name != "chat_template.jinja"]
    config = json.loads((target / "genai_config.json").read_bytes())
    assert config["search"] == {"max_length": 512, "past_present_share_buffer": True}


def test_what_a_file_may_leave_out_has_llama_cpp_s_defaults(tmp_path: Path) -> None:
    llama = TinyLlama(n_kv_heads=4, rope_base=10_000.0)
    spelled_out = {
        "llama.expert_count": 0,
        "llama.attention.causal": True,
        "llama.rope.scaling.type": "linear",
        "llama.rope.scaling.factor": 1.0,
        "llama.rope.scaling.attn_factor": 1.0,
        "tokenizer.ggml.add_eos_token": False,
    }
    left_out = dict.fromkeys(
        [
            "llama.attention.head_count_kv",
            "llama.attention.key_length",
            "llama.attention.value_length",
            "llama.rope.dimension_count",
            "llama.rope.freq_base",
            "tokenizer.ggml.add_bos_token",
        ]
    )
    for name, fields in {"spelled": spelled_out, "left": left_out}.items():
        write_tiny_gguf(tmp_path / f"{name}.gguf", llama, fields=fields)
        import_gguf(tmp_path / f"{name}.gguf", tmp_path / name, model_id="tiny:1")
    assert contents(tmp_path / "spelled") == contents(tmp_path / "left")


def test_template_line_ends_and_letters_are_kept(tmp_path: Path) -> None:
    source, target = tmp_path / "tiny.gguf", tmp_path / "tiny"
    template = "{{ 'é' }}\r\n\n{{ '日本' }}"
    write_tiny_gguf(source, fields={"tokenizer.chat_template": template})
    import_gguf(source, target, model_id="tiny:1")
    assert (target / "chat_template.jinja").read_bytes() == template.encode()


def test_all_that_ends_a_turn_ends_an_answer(tmp_path: Path) -> None:
    source, target = tmp_path / "tiny.gguf", tmp_path / "tiny"
    write_tiny_gguf(source, fields={"tokenizer.ggml.eot_token_id": 9, "tokenizer.ggml.eom_token_id": 8})
    import_gguf(source, target, model_id="tiny:1")
    config = json.loads((target / "genai_config.json").read_bytes())
    assert config["model"]["eos_token_id"] == [2, 9, 8, 0]


@pytest.mark.parametrize("directory", ["with blanks", "Schöne Modelle", "模型 📦"])
def test_engine_and_tokenizer_load_from_any_path(directory: str, tmp_path: Path) -> None:
    (tmp_path / directory).mkdir()
    folder = tiny_model_folder(tmp_path / directory)
    model = og.Model(str(folder))
    assert model.type == "llama"
    assert og.Tokenizer(model).encode("Hello").tolist() == encode(folder, "Hello")
    params = og.GeneratorParams(model)
    params.set_search_options(max_length=64)
    generator = og.Generator(model, params)
    generator.append_tokens(np.array(encode(folder, "Hello world"), dtype=np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    assert generator.token_count() <= 64


def encode(folder: Path, text: str) -> list[int]:
    ids: list[int] = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids
    return ids


def test_tied_embedding_and_head_share_one_copy(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path)
    graph = onnx.load(folder / "model.onnx", load_external_data=False).graph
    places = {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}
        for tensor in graph.initializer
        if tensor.external_data
    }
    inputs = {node.op_type: node.input[:] for node in graph.node}
    table, _, table_scales = inputs["GatherBlockQuantized"]
    _, head, head_scales = inputs["MatMulNBits"]
    assert table != head
    assert places[table] == places[head]
    assert table_scales == head_scales


def test_progress_rises_from_0_to_1(source: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    import_gguf(
        source,
        tmp_path / "tiny",
        model_id="tiny:1",
        progress=lambda stage, share: told.append((stage, share)),
    )
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (told[0], told[-1]) == (("tokenizer", 0.0), ("finishing", 1.0))
    assert list(dict.fromkeys(stage for stage, _ in told)) == ["tokenizer", "weights", "finishing"]


def test_the_size_of_the_pieces_changes_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_gguf(source, tmp_path / "large", model_id="tiny:1")
    monkeypatch.setattr(_weights, "_CHUNK_VALUES", 1)
    import_gguf(source, tmp_path / "small", model_id="tiny:1")
    assert contents(tmp_path / "large") == contents(tmp_path / "small")


class Boom(Exception):
    pass


def fail_at(target: object, name: str, error: BaseException) -> Callable[[pytest.MonkeyPatch], None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return lambda patch: patch.setattr(target, name, fail)


FAILURES = {
    "in the weights": fail_at(_operators, "quantise", Boom()),
    "in the graph": fail_at(_operators.GraphWriter, "model", Boom()),
    "in the configuration": fail_at(importer, "write_genai_config", Boom()),
    "in the tokenizer's files": fail_at(importer, "write_tokenizer", Boom()),
    "in the last file": fail_at(importer, "write_identity", Boom()),
    "on a full disk": fail_at(_weights.DataFile, "write", OSError(28, "No space left on device")),
    "while flushing": fail_at(os, "fsync", OSError(5, "Input/output error")),
    "at Ctrl-C": fail_at(importer, "write_identity", KeyboardInterrupt()),
}


@pytest.mark.parametrize("kept", [False, True], ids=["nothing there", "an older model there"])
@pytest.mark.parametrize("fail", FAILURES.values(), ids=FAILURES.keys())
def test_a_failure_leaves_what_was_there(
    fail: Callable[[pytest.MonkeyPatch], None], kept: bool, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "models" / "tiny"
    before: dict[str, bytes] = {}
    if kept:
        import_gguf(source, target, model_id="older:1")
        before = contents(target)
    with pytest.MonkeyPatch.context() as patch:
        fail(patch)
        with pytest.raises((Boom, OSError, KeyboardInterrupt)):
            import_gguf(source, target, model_id="tiny:2")
    assert names(target.parent) == (["tiny"] if kept else [])
    if kept:
        assert contents(target) == before


@pytest.mark.parametrize("kept", [False, True], ids=["nothing there", "an older model there"])
def test_progress_may_end_the_import_at_any_moment(kept: bool, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "tiny"
    steps: list[float] = []
    import_gguf(source, target, model_id="older:1", progress=lambda _, share: steps.append(share))
    older = contents(target)
    if not kept:
        for path in target.iterdir():
            path.unlink()
        target.rmdir()
    for stop in range(len(steps) - 1):
        countdown = iter(range(stop, -1, -1))

        def interrupt(_stage: str, _share: float, countdown: object = countdown) -> None:
            if next(countdown) == 0:  # type: ignore[call-overload]
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            import_gguf(source, target, model_id="tiny:2", progress=interrupt)
        assert names(target.parent) == (["tiny"] if kept else [])
    if kept:
        assert contents(target) == older


def test_a_failed_rename_puts_the_older_model_back(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "models" / "tiny"
    import_gguf(source, target, model_id="older:1")
    older = contents(target)
    rename = Path.rename

    def rename_but_one(path: Path, to: Path) -> Path:
        if path.name == ".tiny.importing":
            raise PermissionError(13, "in use")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", rename_but_one)
    with pytest.raises(PermissionError):
        import_gguf(source, target, model_id="tiny:2")
    assert names(target.parent) == ["tiny"]
    assert contents(target) == older


def test_an_import_replaces_an_older_model(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "tiny"
    import_gguf(source, target, model_id="older:1")
    import_gguf(source, target, model_id="newer:1", weights="float32")
    assert names(target.parent) == ["tiny"]
    assert json.loads((target / "inference_model.json").read_bytes())["Name"] == "newer:1"


def test_nothing_but_a_model_folder_is_replaced(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "documents"
    target.mkdir()
    import_gguf(source, target, model_id="tiny:1")  # It was empty.
    other = tmp_path / "letters"
    other.mkdir()
    (other / "letter.txt").write_text("Dear …")
    for path in (other, other / "letter.txt"):
        with pytest.raises(FileExistsError) as caught:
            import_gguf(source, path, model_id="tiny:1")
        assert caught.value.args == (errno.EEXIST, "not a model folder, so it is not replaced")
        assert caught.value.filename == str(path)
    assert names(other) == ["letter.txt"]


def test_the_identity_is_the_last_file(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[str] = []
    monkeypatch.setattr(importer, "write_identity", lambda folder, *_: before.extend(names(folder)))
    import_gguf(source, tmp_path / "tiny", model_id="tiny:1")
    assert before == [name for name in FILES if name != "inference_model.json"]


def test_what_a_killed_process_left_is_cleared_by_the_next_import(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "tiny"
    killed = (
        "import os, sys; from pathlib import Path\n"
        "from foundry_runtime.importers.gguf import import_gguf\n"
        "def progress(_, share): share > 0.5 and os._exit(9)\n"
        "import_gguf(Path(sys.argv[1]), Path(sys.argv[2]), model_id='tiny:1', progress=progress)\n"
    )
    process = subprocess.run([sys.executable, "-c", killed, source, target], check=False)
    assert process.returncode == 9
    assert names(target.parent) == [".tiny.importing"]
    import_gguf(source, target, model_id="tiny:1")
    assert names(target.parent) == ["tiny"]
    assert names(target) == FILES


def test_a_model_left_between_two_renames_is_put_back(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "models" / "tiny"
    import_gguf(source, target, model_id="older:1")
    older = contents(target)
    target.rename(target.with_name(".tiny.replaced"))
    with pytest.raises(Boom), _folder.appearing_at(target):
        raise Boom
    assert names(target.parent) == ["tiny"]
    assert contents(target) == older


def test_larger_contexts_and_separate_heads_load(tmp_path: Path) -> None:
    folder = tiny_model_folder(tmp_path, TinyLlama(context_length=10_000, tied_head=False))
    og.Model(str(folder))
    data = (folder / "model.onnx.data").stat().st_size
    assert data > 2 * 10_000 * 8 * 4
