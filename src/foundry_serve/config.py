"""How a server is asked for: every setting, its default, and what it is called.

Knows: the one class of settings; the names of each: `drain` in the file, `FOUNDRY_DRAIN` in the environment,
`--drain` on the command line.
Refuses to know: what a setting does, where its value came from (`config_sources.py`), and how a value is read
(`kinds.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
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
from foundry_runtime.models.engines import EngineKind
from foundry_runtime.models.published.address import OFF, PUBLIC, CatalogAddress, read_address
from foundry_runtime.server import TimeOuts
from foundry_serve.kinds import (
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
    "DEFAULT_PORT",
    "PREFIX",
    "BadConfig",
    "Config",
    "Runtime",
    "Setting",
    "flag_of",
    "settings",
]

DEFAULT_PORT: Final = 5272
"""The first service's port, which its clients try first."""
PREFIX: Final = "FOUNDRY_"
"""What the variables of settings begin with."""

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
    def differences(self) -> str:
        """What is not as by default, for people; what is secret is named, and not shown."""
        said = (
            f"{one.name} = {one.show(value)}"
            for one in settings()
            if (value := getattr(self, one.name)) != one.default
        )
        return ", ".join(said) or "all as by default"

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
        return f"{PREFIX}{self.name.upper()}"

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


def flag_of(name: str) -> str:
    """The command line's spelling of a setting's name."""
    return f"--{name.replace('_', '-')}"
