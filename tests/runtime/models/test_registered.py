"""Registered models: kept, found by their names, and shared with other processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from foundry_proto.codec import ContentError
from foundry_proto.messages.registration import RegisterRequest
from foundry_runtime.download import work
from foundry_runtime.models.registered import ExternalModel, RegisteredModels

ROOT = Path(__file__).parents[3]


def model(name: str = "deepseek-chat", **more: Any) -> ExternalModel:
    given = {"type_name": "deepseek", "base_uri": "https://api.deepseek.com/v1/", **more}
    return ExternalModel.registered(RegisterRequest(model_name=name, **given))


def test_what_was_registered_is_there_for_every_process_until_it_is_taken_back(tmp_path: Path) -> None:
    home = tmp_path / "Zuhause mit Ä"
    ours, theirs = RegisteredModels(home), RegisteredModels(home)
    assert (ours.models(), ours.remove("deepseek-chat")) == ((), False)
    ours.add(model(api_key="secret"))
    theirs.add(model("llama3.2:1b", type_name="ollama", base_uri="http://localhost:11434/v1"))
    (first, second) = ours.models()
    assert first == ExternalModel(
        id="deepseek-chat:1",
        name="deepseek-chat",
        type_name="deepseek",
        base_uri="https://api.deepseek.com/v1",
        api_key="secret",
    )
    assert (second.id, second.name) == ("llama3.2:1b:1", "llama3.2:1b")
    assert theirs.models() == ours.models() == RegisteredModels(home).models()
    assert theirs.remove("DeepSeek-Chat:1")
    assert ours.models() == (second,)


def test_a_model_that_is_registered_again_is_replaced(tmp_path: Path) -> None:
    registered = RegisteredModels(tmp_path)
    registered.add(model())
    registered.add(model("DeepSeek-chat", base_uri="http://localhost:1"))
    (only,) = registered.models()
    assert (only.name, only.base_uri) == ("DeepSeek-chat", "http://localhost:1")


@pytest.mark.parametrize(
    ("name", "asked", "found"),
    [
        ("deepseek-chat", "deepseek-chat", True),
        ("deepseek-chat", "DEEPSEEK-CHAT:1", True),
        ("deepseek-chat", "deepseek-chat:2", False),
        ("deepseek-chat", "deepseek", False),
        ("llama3.2:1b", "llama3.2:1b", True),
        ("llama3.2:1b", "llama3.2", False),
        ("org/model", "org/model", True),
        ("mine:7", "mine", True),
    ],
)
def test_a_model_is_found_by_its_own_name_or_its_id(
    tmp_path: Path, name: str, asked: str, found: bool
) -> None:
    registered = RegisteredModels(tmp_path)
    registered.add(model(name))
    assert (registered.find(asked) is not None) is found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": ""}, 'ModelName: expected a name, got ""'),
        ({"name": "a\nb"}, 'ModelName: expected a name, got "a\\nb"'),
        ({"type_name": " x"}, 'TypeName: expected a name, got " x"'),
        ({"base_uri": "api.deepseek.com"}, "BaseUri: expected http(s)://HOST[:PORT][/PATH], got"),
        ({"base_uri": "ftp://host"}, "BaseUri: expected http(s)://HOST[:PORT][/PATH], got"),
        ({"base_uri": "http://host:port"}, "BaseUri: expected http(s)://HOST[:PORT][/PATH], got"),
        ({"base_uri": "http://"}, "BaseUri: expected http(s)://HOST[:PORT][/PATH], got"),
        ({"base_uri": "http://host/v1?key=1"}, "BaseUri: expected http(s)://HOST[:PORT][/PATH], got"),
        ({"base_uri": "http://ho st/"}, "BaseUri: expected http(s)://HOST[:PORT][/PATH], got"),
        (
            {"base_uri": "http://user:word@host"},
            "BaseUri: expected an address without user and password: a key goes into ApiKey",
        ),
        ({"api_key": "two words"}, "ApiKey: expected visible ASCII characters"),
    ],
)
def test_what_is_no_registration_is_refused_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ContentError) as caught:
        model(**given)
    assert str(caught.value).startswith(message)


def test_a_key_is_shown_to_nobody(tmp_path: Path) -> None:
    request = RegisterRequest(model_name="m", type_name="t", base_uri="http://h", api_key="secret")
    registered = RegisteredModels(tmp_path)
    registered.add(ExternalModel.registered(request))
    assert "secret" not in repr((request, registered.models()))
    if sys.platform != "win32":
        assert (tmp_path / "registered.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content", [b"", b"{torn", b'{"version":2,"models":[]}', b'{"version":1,"models":[{}]}']
)
def test_a_file_that_is_none_is_told_of_and_kept_when_another_is_written(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "registered.json"
    path.write_bytes(content)
    registered = RegisteredModels(tmp_path)
    assert registered.models() == ()
    assert [record.message.startswith(f"{path}: no registered models: ") for record in caplog.records] == [
        True
    ]
    registered.add(model())
    assert (tmp_path / "registered.json.unusable").read_bytes() == content
    assert json.loads(path.read_bytes())["version"] == 1
    assert len(RegisteredModels(tmp_path).models()) == 1


_ADD = """
import sys
from pathlib import Path
from tests.runtime.models.test_registered import model
from foundry_runtime.models.registered import RegisteredModels
for number in range(20):
    RegisteredModels(Path(sys.argv[1])).add(model(f"their-{number}"))
"""


def test_no_registration_is_lost_when_two_processes_register_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _ADD, str(tmp_path)], cwd=ROOT) as other:
        ours = RegisteredModels(tmp_path)
        for number in range(20):
            while not ours.find("their-0"):  # both are at it only from then on
                assert other.poll() is None or ours.find("their-0")
                time.sleep(0.001)
            ours.add(model(f"our-{number}"))
    assert other.returncode == 0
    assert len(ours.models()) == 40


def test_who_only_looks_does_not_wait_for_another_process_that_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registered, waits, goes_on = RegisteredModels(tmp_path), threading.Event(), threading.Event()
    genuine = work._try_alone

    def try_alone(path: Path) -> BinaryIO | None:
        waits.set()
        return genuine(path) if goes_on.is_set() else None

    monkeypatch.setattr(work, "_try_alone", try_alone)
    looked: list[object] = []
    writer = threading.Thread(target=registered.add, args=(model(),))
    looker = threading.Thread(target=lambda: looked.append(registered.find("deepseek-chat")))
    writer.start()
    try:
        assert waits.wait(60)
        looker.start()
        looker.join(60)
        assert looked == [None]
    finally:
        goes_on.set()
        writer.join()
        looker.join()
    assert registered.find("deepseek-chat") == model()
