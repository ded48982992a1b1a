"""How a server is asked for: every setting, its default, and where its value came from.

Knows: the one class of settings; the order default < `foundry cache cd` < file < environment < flag; that an
unknown name is an error.
Refuses to know: what a setting does.

A setting has one name in three spellings: `drain` in the file, `FOUNDRY_DRAIN` in the environment, `--drain`
on the command line. The file is `$FOUNDRY_CONFIG`, else `config.toml` in `$FOUNDRY_HOME`; there need be none.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import attrs
from attrs import evolve, field, frozen

from foundry_proto.connection import Limits
from foundry_proto.messages.chat import MAX_MESSAGES
from foundry_proto.operations.table import MAX_REQUEST_BODY
from foundry_proto.wire import Wire
from foundry_runtime.application import WorkLimits
from foundry_runtime.crowd import CrowdLimits
from foundry_runtime.download.manager import MOST_DOWNLOADS
from foundry_runtime.engine.admission import MOST_WAITING
from foundry_runtime.models.directory import ModelDirectory
from foundry_runtime.models.engines import EngineKind
from foundry_runtime.models.published.address import OFF, PUBLIC, CatalogAddress, read_address
from foundry_runtime.models.settings import SETTINGS_FILE
from foundry_runtime.server import TimeOuts
from foundry_serve.kinds import (
    BadValue,
    Kind,
    address,
    choice,
    described,
    file_mode,
    keys,
    number,
    origins,
    path,
    says,
    switch,
    text,
    texts,
    whole,
)
from foundry_serve.logs import FORMATS, LogFormat

__all__ = [
    "CONFIG_FILE",
    "DEFAULT_PORT",
    "BadConfig",
    "Config",
    "Loaded",
    "Runtime",
    "Setting",
    "config_path",
    "flag_of",
    "load_config",
    "settings",
]

DEFAULT_PORT: Final = 5272
"""The first service's port, which its clients try first."""
CONFIG_FILE: Final = "config.toml"
_PREFIX: Final = "FOUNDRY_"
_FILE_VARIABLE: Final = "FOUNDRY_CONFIG"
_OTHER_VARIABLES: Final = ("FOUNDRY_HOME", _FILE_VARIABLE)

Runtime = Literal["asyncio", "trio"]

_TIME_OUTS: Final = TimeOuts()
_LIMITS: Final = Limits()
_CROWD: Final = CrowdLimits()
_WORK: Final = WorkLimits()


def _read_address(given: object) -> str | None:
    if not isinstance(given, str):
        return None
    try:
        address = read_address(given)
    except ValueError:
        return None
    return OFF if address is None else address.base


_address: Final = Kind(expects=f"http(s)://HOST[:PORT][/PATH] or {OFF}", read=_read_address, noun="url")


class BadConfig(ValueError):
    """A setting cannot be used; the text says where it stands, its name, and what was expected."""


@frozen(kw_only=True)
class Config:
    """How to serve."""

    WIRE: ClassVar = Wire(writes=("camel",))

    host: str = field(default="localhost", metadata=says("The name or address to listen on.", text))
    port: int | None = field(
        default=None,
        metadata=says(
            "0 takes a free one. By default 5272; in the background a free one where that is taken.",
            whole(0, 65535),
        ),
    )
    cachedir: str | None = field(
        default=None,
        metadata=says("Where the models are; by default in $FOUNDRY_HOME.", path),
    )
    threads: int | None = field(
        default=None, metadata=says("Threads per model; by default the usable cores.", whole(1))
    )
    engine: EngineKind = field(
        default="auto",
        metadata=says(
            "What generates: many answers in one pass, or onnxruntime-genai's own generator.",
            choice("auto", "batched", "genai"),
        ),
    )
    speculate: bool = field(
        default=False, metadata=says("Guess what comes next while one answer is generated.", switch)
    )
    isolate: bool = field(
        default=False, metadata=says("Run each model's engine in a process of its own.", switch)
    )
    catalog: str = field(
        default=PUBLIC.base,
        metadata=says("Which catalogue of models is asked: an address, or off.", _address),
    )
    drain: float = field(default=10.0, metadata=says("Seconds for running answers when stopped.", number(0)))
    allow_shutdown: bool = field(
        default=False, metadata=says("Let programs on this machine stop the server.", switch)
    )
    verbose: bool = field(default=False, metadata=says("Log more.", switch))
    log_format: LogFormat = field(
        default="text",
        metadata=says("How lines of the log look: for people, or as JSON.", choice(*FORMATS)),
    )
    log_prompts: bool = field(
        default=False, metadata=says("Log what is asked, and tell it in traces.", switch)
    )
    metrics: bool = field(default=True, metadata=says("Tell Prometheus what is counted: /metrics.", switch))
    tracing: bool = field(
        default=False, metadata=says("Send traces, as OpenTelemetry's own variables say.", switch)
    )
    runtime: Runtime = field(
        default="asyncio", metadata=says("The event loop to run on.", choice("asyncio", "trio"))
    )

    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=says("Further names in Host that are this server's, as proxies have them; * is any.", texts),
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata=says("Origins whose web pages may use the server; * is any.", origins),
    )
    api_keys: tuple[str, ...] = field(
        default=(),
        metadata=says("Keys, one of which every request needs.", keys, secret=True, flag=False),
    )
    api_keys_file: str | None = field(
        default=None, metadata=says("A file of such keys, one in each line.", path)
    )
    without_keys: bool = field(
        default=False,
        metadata=says("Listen beyond this machine although no key is needed.", switch),
    )
    tls_cert: str | None = field(
        default=None, metadata=says("The certificate, and those above it, as PEM: https alone.", path)
    )
    tls_key: str | None = field(
        default=None, metadata=says("The certificate's key, unless it is in the same file.", path)
    )
    unix_socket: str | None = field(default=None, metadata=says("Listen on this Unix socket, too.", path))
    tcp: bool = field(default=True, metadata=says("Listen on host and port.", switch))
    unix_socket_mode: int = field(
        default=0o600, metadata=says("Who may connect to it, as a file's mode.", file_mode)
    )

    max_connections: int = field(
        default=_CROWD.total, metadata=says("Connections at a time; one more gets 503.", whole(1))
    )
    max_connections_per_address: int = field(
        default=_CROWD.per_address,
        metadata=says("The same from one address; one more gets 429.", whole(1)),
    )
    max_head: int = field(
        default=_LIMITS.head,
        metadata=says("Bytes of a request's line and headers; beyond them 431.", whole(1024, 1024 * 1024)),
    )
    max_headers: int = field(
        default=_LIMITS.headers, metadata=says("Headers of a request; beyond them 431.", whole(16, 1000))
    )
    max_body: int = field(
        default=MAX_REQUEST_BODY,
        metadata=says("Bytes of a request's body; beyond them 413.", whole(1024, 1024 * 1024 * 1024)),
    )
    max_json_depth: int = field(
        default=_LIMITS.depth,
        metadata=says("Levels of nesting in a body's JSON; beyond them 400.", whole(8, _LIMITS.depth)),
    )
    max_messages: int = field(
        default=MAX_MESSAGES, metadata=says("Messages of a chat; beyond them 400.", whole(1, MAX_MESSAGES))
    )
    max_requests: int = field(
        default=_WORK.requests,
        metadata=says("Chats and the like at a time, waiting ones included; one more gets 503.", whole(1)),
    )
    max_waiting: int = field(
        default=MOST_WAITING,
        metadata=says("Requests that wait for one model's engine; one more gets 503.", whole(0)),
    )
    max_downloads: int = field(
        default=MOST_DOWNLOADS, metadata=says("Models downloaded at a time; one more gets 503.", whole(1))
    )
    request_timeout: float = field(
        default=_WORK.seconds,
        metadata=says("Seconds for a chat and the like, loading included; then 503.", number(0.001)),
    )
    idle_timeout: float = field(
        default=_TIME_OUTS.idle,
        metadata=says("Seconds for the first byte of a request; then the connection closes.", number(0.001)),
    )
    head_timeout: float = field(
        default=_TIME_OUTS.head,
        metadata=says("Seconds for a request's whole head; then 408.", number(0.001)),
    )
    body_timeout: float = field(
        default=_TIME_OUTS.body,
        metadata=says("Seconds for a request's whole body; then 408.", number(0.001)),
    )
    write_timeout: float = field(
        default=_TIME_OUTS.write,
        metadata=says(
            "Seconds in which a reader must take something of what is written; else it is cut.", number(0.001)
        ),
    )

    azure_registry: str | None = field(
        default=None,
        metadata=says("Where the Azure catalogue's model registry is, with {region} in it or not.", address),
    )
    azure_regions: tuple[str, ...] = field(
        default=(), metadata=says("The registry's regions, in the order in which they are asked.", texts)
    )
    hugging_face: str | None = field(
        default=None,
        metadata=says("Where the Hugging Face hub is; by default $HF_ENDPOINT, or the public one.", address),
    )

    @property
    def time_outs(self) -> TimeOuts:
        """How long a connection may wait."""
        return TimeOuts(
            idle=self.idle_timeout, head=self.head_timeout, body=self.body_timeout, write=self.write_timeout
        )

    @property
    def catalog_address(self) -> CatalogAddress | None:
        """Where the catalogue is; `None` if none is asked."""
        return read_address(self.catalog)

    @property
    def limits(self) -> Limits:
        """How much a peer may make a connection hold."""
        return Limits(
            head=self.max_head, headers=self.max_headers, body=self.max_body, depth=self.max_json_depth
        )

    @property
    def work(self) -> WorkLimits:
        """How much may be worked on."""
        return WorkLimits(requests=self.max_requests, seconds=self.request_timeout)

    @property
    def crowd(self) -> CrowdLimits:
        """How many connections there may be."""
        return CrowdLimits(total=self.max_connections, per_address=self.max_connections_per_address)

    @property
    def asks_for_keys(self) -> bool:
        """Whether a request needs a key."""
        return bool(self.api_keys) or self.api_keys_file is not None

    @property
    def shown(self) -> Config:
        """The same without what is secret."""
        return evolve(self, **{one.name: one.default for one in settings() if one.secret})


@frozen(kw_only=True)
class Setting:
    """One field of `Config`."""

    name: str
    help: str
    kind: Kind
    default: Any
    secret: bool
    """Whether its value is shown to nobody."""
    has_flag: bool

    @property
    def variable(self) -> str:
        """The environment's name for it."""
        return f"{_PREFIX}{self.name.upper()}"

    @property
    def flag(self) -> str:
        """The command line's name for it."""
        return flag_of(self.name)

    def show(self, value: object) -> str:
        """Write a value for people."""
        if self.secret and value != self.default:
            return "(secret)"
        return "-" if value is None else self.kind.show(value)


def settings() -> Iterator[Setting]:
    """Every setting, in the order of the help."""
    for one in attrs.fields(Config):
        words, kind, secret, flag = described(one.metadata)
        yield Setting(name=one.name, help=words, kind=kind, default=one.default, secret=secret, has_flag=flag)


@frozen(kw_only=True)
class Loaded:
    """A configuration, and where its values came from."""

    config: Config
    sources: Mapping[str, str]
    """By the setting's name: a file, a variable or a flag. What is missing has its default."""
    home: Path
    """`$FOUNDRY_HOME`, or what stands for it."""
    file: Path
    """The file of settings; need not exist."""

    @property
    def directory(self) -> ModelDirectory:
        """The user's models."""
        elsewhere = self.config.cachedir
        return ModelDirectory(self.home, None if elsewhere is None else Path(elsewhere))

    @property
    def flags(self) -> Mapping[str, Any]:
        """What the command line said, by the setting's name."""
        given = [name for name, source in self.sources.items() if source == flag_of(name)]
        return {name: getattr(self.config, name) for name in given}

    @property
    def variables(self) -> Mapping[str, str]:
        """The variables that name places, for a process that runs in another folder."""
        places = {
            one.variable: getattr(self.config, one.name)
            for one in settings()
            if one.kind.is_path and self.sources.get(one.name) == one.variable
        }
        if self.file.exists():  # to name one that is not there would be an error
            places[_FILE_VARIABLE] = str(self.file)
        return places


def config_path(home: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the file is, which need not be there: `$FOUNDRY_CONFIG`, else in the home."""
    named = environment.get(_FILE_VARIABLE)
    return Path(named).expanduser().absolute() if named else home / CONFIG_FILE


def load_config(
    flags: Mapping[str, object] | None = None, *, environment: Mapping[str, str] = os.environ
) -> Loaded:
    """Put the configuration together.

    Args:
        flags: What the command line says, by the setting's name.
        environment: The variables.

    Raises:
        BadConfig: A setting has no such value, or there is none of that name.
        BadSettings: What `foundry cache cd` remembers cannot be read.
    """
    directory = ModelDirectory.from_environment(environment)
    file = config_path(directory.home, environment)
    known = {one.name: one for one in settings()}
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if directory.elsewhere is not None:
        values["cachedir"] = str(directory.elsewhere)
        sources["cachedir"] = str(directory.home / SETTINGS_FILE)
    must_exist = bool(environment.get(_FILE_VARIABLE))
    for one in (*_of_file(file, must_exist), *_of_environment(environment), *_of_flags(flags or {})):
        setting = known.get(one.name)
        if setting is None:
            raise BadConfig(f"{one.where}: {_no_such(known, one.name)}")
        try:
            values[one.name] = setting.kind.value_of(one.value, secret=setting.secret, base=one.base)
        except BadValue as error:
            raise BadConfig(f"{one.where}: {error}") from None
        sources[one.name] = one.source
    return Loaded(config=Config(**values), sources=sources, home=directory.home, file=file)


@frozen(kw_only=True)
class _Given:
    """What one place says of one setting."""

    name: str
    value: object
    source: str
    """The file, the variable or the flag."""
    where: str
    """The same for errors: of a file, its field too."""
    base: Path = field(factory=Path)
    """What a path is relative to."""


def _of_file(file: Path, must_exist: bool) -> Iterator[_Given]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        if must_exist:
            raise BadConfig(f"{_FILE_VARIABLE}: {file}: {error.strerror}") from error
        return
    except OSError as error:
        raise BadConfig(f"{file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(f"{file}: expected TOML: {error}") from error
    for name, value in content.items():
        yield _Given(name=name, value=value, source=str(file), where=f"{file}: {name}", base=file.parent)


def _of_environment(environment: Mapping[str, str]) -> Iterator[_Given]:
    """Give what variables say; an empty one says nothing.

    Choice: what begins with FOUNDRY_ may belong to other programs. An unknown name is an error only if it
    looks like a known one that was mistyped.
    """
    known = {one.variable: one.name for one in settings()}
    for variable, value in environment.items():
        if value == "" or not variable.startswith(_PREFIX) or variable in _OTHER_VARIABLES:
            continue
        if variable in known:
            yield _Given(name=known[variable], value=value, source=variable, where=variable)
        elif near := _nearest(variable, (*known, *_OTHER_VARIABLES)):
            raise BadConfig(f"{variable}: no such setting; did you mean {near}?")


def _of_flags(flags: Mapping[str, object]) -> Iterator[_Given]:
    for name, value in flags.items():
        flag = flag_of(name)
        yield _Given(name=name, value=value, source=flag, where=flag)


def flag_of(name: str) -> str:
    """The command line's spelling of a setting's name."""
    return f"--{name.replace('_', '-')}"


def _no_such(known: Iterable[str], name: str) -> str:
    near = _nearest(name, known)
    return "no such setting" + (f"; did you mean {near}?" if near else "")


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that somebody who wrote this one has probably meant."""
    by_letters = {_letters(one): one for one in known}
    found = difflib.get_close_matches(_letters(name), by_letters, n=1, cutoff=0.8)
    return by_letters[found[0]] if found else None


def _letters(name: str) -> str:
    """A name as far as people remember it."""
    return name.removeprefix(_PREFIX).replace("-", "").replace("_", "").lower()
