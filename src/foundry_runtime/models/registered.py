"""Models of other servers that were registered here: which there are, kept in a file.

Knows: `$FOUNDRY_HOME/registered.json`, what can be registered, and which model a name means.
Refuses to know: how anything is relayed (`external.py`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from attrs import field, frozen

from foundry_proto.catalog import base_of, is_meant, version_of
from foundry_proto.codec import ContentError, decode, encode
from foundry_proto.jsontext import show
from foundry_proto.messages.registration import RegisterRequest
from foundry_runtime.download.work import Work
from foundry_runtime.models.description import CatalogModel
from foundry_runtime.platform import write_whole

__all__ = ["REGISTERED_FILE", "ExternalModel", "RegisteredModels", "RegisteredSource"]

logger = logging.getLogger(__name__)

REGISTERED_FILE: Final = "registered.json"


@frozen(kw_only=True)
class ExternalModel:
    """A model of another server that speaks OpenAI's API."""

    id: str
    """Its id here, which has a version, as every id of a catalogue: `deepseek-chat:1`."""
    name: str
    """What the other server calls it: `deepseek-chat`."""
    type_name: str
    """What kind of server that is; the model's publisher here."""
    base_uri: str
    """What stands before `/chat/completions` there, without a slash at its end."""
    api_key: str | None = field(default=None, repr=False)

    @classmethod
    def registered(cls, request: RegisterRequest) -> ExternalModel:
        """Make one of a registration.

        Raises:
            ContentError: Its name, its type or its address is none.
        """
        for field_name, text in (("TypeName", request.type_name), ("ModelName", request.model_name)):
            if not text or text != text.strip() or not text.isprintable():
                raise ContentError(f"expected a name, got {show(text)}", (field_name,))
        name, key = request.model_name, request.api_key or None
        if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
            raise ContentError("expected visible ASCII characters", ("ApiKey",))  # never the key itself
        return cls(
            # Choice: every client wants ids with a version; a name that has none is version 1.
            id=name if version_of(name) >= 0 else f"{name}:1",
            name=name,
            type_name=request.type_name,
            base_uri=_checked_uri(request.base_uri),
            api_key=key,
        )


def _checked_uri(uri: str) -> str:
    """The address without a slash at its end.

    Raises:
        ContentError: It is no plain address of a server.
    """
    expected = ContentError(f"expected http(s)://HOST[:PORT][/PATH], got {show(uri)}", ("BaseUri",))
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise expected from None
    if "@" in parts.netloc:
        raise ContentError(
            "expected an address without user and password: a key goes into ApiKey", ("BaseUri",)
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise expected
    if not uri.isascii() or not uri.isprintable() or " " in uri:
        raise expected
    return uri.rstrip("/")


@frozen(kw_only=True)
class _File:
    version: Literal[1] = 1
    models: tuple[RegisterRequest, ...]


class RegisteredModels:
    """The models that were registered, by this process or another with the same home.

    Every method blocks for a look at a small file, which is read only when it has changed.

    Args:
        home: The folder that holds all that belongs to the service.
    """

    def __init__(self, home: Path) -> None:
        self._path = home / REGISTERED_FILE
        self._lock = threading.Lock()
        self._seen: object = None
        self._models: tuple[ExternalModel, ...] = ()
        self._usable = True

    def models(self) -> tuple[ExternalModel, ...]:
        """All of them, in the order of their registration."""
        with self._lock:
            return self._read()

    def find(self, name: str) -> ExternalModel | None:
        """The model that a name means: its own or its id, in any letter case; `None` if none is meant."""
        return next((model for model in self.models() if is_meant(model.id, name)), None)

    def add(self, model: ExternalModel) -> None:
        """Register a model, in place of one of the same name.

        Raises:
            OSError: The file cannot be written.
        """
        with self._alone():
            others = [other for other in self._read() if other.id.casefold() != model.id.casefold()]
            self._write((*others, model))

    def remove(self, name: str) -> bool:
        """Take a registration back; whether there was one.

        Raises:
            OSError: The file cannot be written.
        """
        with self._alone():
            models = self._read()
            left = tuple(model for model in models if not is_meant(model.id, name))
            if len(left) == len(models):
                return False
            self._write(left)
            return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let no other thread, and no other process, change the file meanwhile.

        In this order: whoever only looks, an event loop for one, must not wait for another process.
        """
        with Work().alone(self._path.with_suffix(".lock")), self._lock:
            yield

    def _read(self) -> tuple[ExternalModel, ...]:
        try:
            status = self._path.stat()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):
                logger.warning("%s: no registered models: %s", self._path, error)
            self._seen, self._models, self._usable = None, (), True
            return ()
        seen = (status.st_mtime_ns, status.st_size, status.st_ino)
        if seen != self._seen:
            self._models = self._decoded()
            self._seen = seen
        return self._models

    def _decoded(self) -> tuple[ExternalModel, ...]:
        # A file that cannot be used is told of and left: who registers next keeps it under another name.
        self._usable = False
        try:
            file = decode(_File, self._path.read_bytes())
            models = tuple(map(ExternalModel.registered, file.models))
        except (ContentError, OSError) as error:
            logger.warning("%s: no registered models: %s", self._path, error)
            return ()
        self._usable = True
        return models

    def _write(self, models: tuple[ExternalModel, ...]) -> None:
        requests = [
            RegisterRequest(
                type_name=model.type_name,
                model_name=model.name,
                base_uri=model.base_uri,
                api_key=model.api_key,
            )
            for model in models
        ]
        if not self._usable:
            self._path.replace(self._path.with_suffix(".json.unusable"))
        write_whole(self._path, encode(_File(models=tuple(requests))) + b"\n")


@frozen
class RegisteredSource:
    """What the catalogue is told of registered models: a source of it.

    Args:
        registered: The models.
    """

    registered: RegisteredModels

    def models(self) -> Sequence[CatalogModel]:
        """All of them; none needs a download."""
        return [
            CatalogModel(
                id=model.id,
                alias=base_of(model.id),
                uri=model.base_uri,
                provider_type=model.type_name,
                publisher=model.type_name,
                model_type="External",
                parent_uri=model.base_uri,
                cached=True,
            )
            for model in self.registered.models()
        ]
