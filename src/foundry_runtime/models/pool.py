"""The models in memory: loaded on first use, shared by all requests, and let go when nobody wants them.

Knows: how to do what `foundry_proto.lifecycle` decides: loads and unloads run in the application's task
group, and one timer looks at the clock; who waits for a model is told what became of it.
Refuses to know: how a model is loaded (its opener does), and any of the rules.

    async with pool.lease(folder) as model:
        ...
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, assert_never

import anyio
from anyio.abc import TaskGroup
from attrs import define, field, frozen

from foundry_proto.chat.text_stream import TextStream
from foundry_proto.lifecycle import (
    DEFAULT_TTL,
    Action,
    Grant,
    Lease,
    Lifecycle,
    Load,
    Refuse,
    State,
    Unload,
)
from foundry_proto.messages.watch import ModelChanged
from foundry_proto.sentinels import ABSENT
from foundry_runtime.engine.text.guidance.grammars import Guidance
from foundry_runtime.engine.text.prompt import PromptMaker
from foundry_runtime.engine.worker import Worker
from foundry_runtime.models.folder import ModelFolder

if TYPE_CHECKING:  # a pool without a model for embeddings needs no numpy
    from foundry_runtime.engine.embed import Embedder
    from foundry_runtime.engine.text.inputs import InputEncoder

__all__ = [
    "LoadFailed",
    "Loaded",
    "LoadedEncoder",
    "LoadedModel",
    "ModelPool",
    "OpenModel",
    "ProviderUnavailable",
]

logger = logging.getLogger(__name__)


class LoadFailed(Exception):
    """A model could not be loaded; the text says which and why, for the client too."""


class ProviderUnavailable(LoadFailed):
    """A model was asked for on an execution provider that is not there; the text says which are."""


@frozen(kw_only=True, eq=False)
class LoadedModel:
    """A model that answers."""

    folder: ModelFolder
    worker: Worker
    prompts: PromptMaker
    provider: str = "cpu"
    """The execution provider that it runs on."""
    guidance: Guidance = field(init=False)
    """What makes it answer in a form that is asked for."""

    @guidance.default
    def _guidance(self) -> Guidance:
        return Guidance(self.prompts.tokenizer, end_ids=self.folder.end_ids, rows=self.folder.vocab_size)

    def text_stream(self, stop: Sequence[str], shown: Collection[str] = ()) -> TextStream:
        """Begin to read the tokens of one job as text.

        Args:
            stop: Where it ends.
            shown: Special tokens that are text in it.
        """
        tokenizer = self.prompts.tokenizer
        return TextStream(tokenizer.bytes_showing(shown), stop, drop_first_blank=tokenizer.drops_first_blank)

    @property
    def aclose(self) -> Callable[[], Awaitable[None]]:
        """Frees it; running jobs end with an error.

        Whoever has this alone keeps nothing else of the model: all of it is there to be given back when the
        engine gives memory back.
        """
        return self.worker.aclose


@frozen(kw_only=True, eq=False)
class LoadedEncoder:
    """A model that gives vectors."""

    folder: ModelFolder
    embedder: Embedder
    inputs: InputEncoder
    provider: str = "cpu"
    """The execution provider that it runs on."""

    @property
    def aclose(self) -> Callable[[], Awaitable[None]]:
        """Frees it, once the call that is being computed has ended; later ones end with an error."""
        return self.embedder.aclose


Loaded = LoadedModel | LoadedEncoder
"""A model in memory, of either kind."""


class OpenModel(Protocol):
    """What loads models."""

    async def __call__(self, folder: ModelFolder, provider: str | None) -> Loaded:
        """Load a model from its folder; what this raises is the reason given for the failure.

        Args:
            folder: The model.
            provider: One of `providers`; `None` leaves it to the model.
        """
        ...

    async def providers(self) -> Sequence[str]:
        """The execution providers that models can run on here, by their short names."""
        ...


@define(eq=False)
class _Wait:
    """What becomes of a lease."""

    settled: anyio.Event = field(factory=anyio.Event)
    model: Loaded | None = None
    reason: str = ""


class ModelPool:
    """Hands out loaded models.

    Args:
        open_model: Loads one.
        task_group: Where loads, unloads and the timer run; cancelled after `aclose`.
        default_ttl: Seconds that a model stays without being used, where nobody says how long.
        tell: Is told of each change of a model's state, in the event loop; it must not wait.
    """

    def __init__(
        self,
        open_model: OpenModel,
        task_group: TaskGroup,
        *,
        default_ttl: float = DEFAULT_TTL,
        tell: Callable[[ModelChanged], None] = lambda _: None,
    ) -> None:
        self._open_model = open_model
        self._tell = tell
        self._told: dict[str, State] = {}
        """Where the models were when it was last told."""
        self._task_group = task_group
        self._default_ttl = default_ttl
        self._lifecycle = Lifecycle(default_ttl)
        self._folders: dict[str, ModelFolder] = {}
        """Of each model as it was when it was last asked for."""
        self._models: dict[str, Loaded] = {}
        self._waits: dict[Lease, _Wait] = {}
        self._alarm = math.inf
        """What the timer waits for."""
        self._sooner = anyio.Event()
        task_group.start_soon(self._watch, name="models' time to live")

    @asynccontextmanager
    async def lease(
        self, folder: ModelFolder, *, ttl: float | None = None, provider: str | None = None
    ) -> AsyncIterator[Loaded]:
        """Use a model, loading it if it is not there; it stays as long as the context.

        A cancelled caller loses nothing but its place: a load that has begun goes on.

        Args:
            folder: The model.
            ttl: Seconds that it stays after its last use from now on; `None` leaves that as it is.
            provider: The execution provider to run on. A model that is in use stays where it is: look at
                `provider` of the model.

        Raises:
            LoadFailed: It could not be loaded; the next call tries again.
            ProviderUnavailable: The provider is not there; nothing else has changed.
        """
        await self._check(provider)
        async with self._hold(folder, Lease(model=folder.id, ttl=ttl, provider=provider)) as model:
            yield model

    async def load(
        self,
        folder: ModelFolder,
        *,
        ttl: float | None = None,
        pin: bool = False,
        provider: str | None = None,
    ) -> bool:
        """Have a model in memory, and set the terms on which it stays.

        Args:
            folder: The model.
            ttl: Seconds that it stays after its last use; `None` is the pool's default.
            pin: Whether it stays however long nobody uses it.
            provider: The execution provider to run on, as for `lease`.

        Returns:
            Whether it had to be loaded; `False` if it was there.

        Raises:
            LoadFailed: It could not be loaded; the next call tries again.
            ProviderUnavailable: The provider is not there; nothing else has changed.
        """
        await self._check(provider)
        ttl = self._default_ttl if ttl is None else ttl
        lease = Lease(model=folder.id, ttl=ttl, pin=pin, provider=provider)
        before = self._models.get(folder.id)
        async with self._hold(folder, lease) as model:
            return model is not before

    def unload(self, model_id: str, *, force: bool = False) -> bool:
        """Ask for a model to leave.

        Args:
            model_id: The model; nothing happens when it is not loaded.
            force: Whether it leaves the list of loaded models at once, pinned or not, and the memory when its
                last running request has ended. Otherwise only a model leaves whose time to live is over.

        Returns:
            Whether it was loaded, and is so no more.
        """
        was_ready = self._lifecycle.state(model_id) is State.READY
        self._perform(self._lifecycle.unload(model_id, anyio.current_time(), force=force))
        return was_ready and self._lifecycle.state(model_id) is not State.READY

    def unload_all(self) -> None:
        """Have every model leave, by force."""
        for model_id in self._folders:
            self.unload(model_id, force=True)

    def loaded(self) -> list[str]:
        """The ids of the models that are in memory and may be used."""
        return self._lifecycle.ready

    def states(self) -> list[ModelChanged]:
        """Where each model is that is not absent, as it would be told."""
        return [self._changed(model_id, state) for model_id, state in self._lifecycle.states.items()]

    def models(self) -> list[Loaded]:
        """The models that are in memory and may be used."""
        return [self._models[model_id] for model_id in self.loaded()]

    def provider_of(self, model_id: str) -> str | None:
        """Where a loaded model runs; `None` if it is not loaded."""
        return self._models[model_id].provider if model_id in self.loaded() else None

    def discard(self, model: Loaded) -> None:
        """Forget a model whose engine is lost: the next request loads it again."""
        if self._models.get(model.folder.id) is model:
            self.unload(model.folder.id, force=True)

    def _discard_if_lost(self, model_id: str) -> None:
        """Have a model loaded anew whose engine has ended while nobody used it."""
        model = self._models.get(model_id)
        if isinstance(model, LoadedModel) and model.worker.lost:
            logger.warning("the engine of %s is gone", model_id)
            self.discard(model)

    async def aclose(self) -> None:
        """Free every model; running jobs end with an error."""
        for action in self._lifecycle.close(anyio.current_time(), reason="the server is stopping"):
            if isinstance(action, Unload):
                await self._unload(action.model, self._models.pop(action.model).aclose)
            else:
                self._perform([action])

    async def _check(self, provider: str | None) -> None:
        if provider is None:
            return
        available = await self._open_model.providers()
        if provider not in available:
            raise ProviderUnavailable(
                f"expected a provider that is available here ({', '.join(available)}), got {provider}"
            )

    @asynccontextmanager
    async def _hold(self, folder: ModelFolder, lease: Lease) -> AsyncIterator[Loaded]:
        self._discard_if_lost(folder.id)
        wait = self._waits[lease] = _Wait()
        self._folders[folder.id] = folder
        try:
            self._perform(self._lifecycle.acquire(lease, anyio.current_time()))
            await wait.settled.wait()
            if wait.model is None:
                raise LoadFailed(f"the model {folder.id} could not be loaded: {wait.reason}")
            yield wait.model
        finally:
            del self._waits[lease]
            self._perform(self._lifecycle.release(lease, anyio.current_time()))

    def _perform(self, actions: Iterable[Action]) -> None:
        """Do what was decided. Nothing here waits."""
        for action in actions:
            match action:
                case Load():
                    folder = self._folders[action.model]
                    self._task_group.start_soon(self._load, folder, action.provider)
                case Unload():
                    close = self._models.pop(action.model).aclose
                    self._task_group.start_soon(self._unload, action.model, close)
                case Grant():
                    wait = self._waits[action.lease]
                    wait.model = self._models[action.lease.model]
                    wait.settled.set()
                case Refuse():
                    wait = self._waits[action.lease]
                    wait.reason = action.reason
                    wait.settled.set()
                case _:
                    assert_never(action)
        deadline = self._lifecycle.deadline
        if deadline is not None and deadline < self._alarm:
            self._sooner.set()
        self._tell_changes()

    def _tell_changes(self) -> None:
        before, self._told = self._told, self._lifecycle.states
        for model_id in {**before, **self._told}:
            state = self._told.get(model_id, State.ABSENT)
            if before.get(model_id, State.ABSENT) is not state:
                self._tell(self._changed(model_id, state))

    def _changed(self, model_id: str, state: State) -> ModelChanged:
        provider = self._models[model_id].provider if state is State.READY else ABSENT
        return ModelChanged(model=model_id, state=state.value, provider=provider)

    async def _watch(self) -> None:
        """Let go of what nobody has used for long enough, when its time has come."""
        while True:
            deadline = self._lifecycle.deadline
            self._alarm = math.inf if deadline is None else deadline
            self._sooner = anyio.Event()
            with anyio.CancelScope(deadline=self._alarm):
                await self._sooner.wait()
            self._perform(self._lifecycle.tick(anyio.current_time()))

    async def _load(self, folder: ModelFolder, provider: str | None) -> None:
        reason = "the server is stopping"
        model = None
        try:
            logger.info("loading %s", folder.id)
            model = await self._open_model(folder, provider)
            logger.info("loaded %s on %s", folder.id, model.provider)
        # The border to all that opens models: who waits for this one is told, and the pool goes on.
        except Exception as error:
            logger.exception("loading %s failed", folder.id)
            reason = str(error) or type(error).__name__
        finally:
            now = anyio.current_time()
            if model is None:
                self._told.pop(folder.id, None)
                self._tell(ModelChanged(model=folder.id, state="failed", reason=reason))
                self._perform(self._lifecycle.load_failed(folder.id, now, reason=reason))
            else:
                self._models[folder.id] = model
                self._perform(self._lifecycle.loaded(folder.id, now, provider=model.provider))

    async def _unload(self, model_id: str, close: Callable[[], Awaitable[None]]) -> None:
        try:
            await close()
            logger.info("unloaded %s", model_id)
        except Exception:  # as above; nobody waits for it
            logger.exception("closing %s failed", model_id)
        finally:
            self._perform(self._lifecycle.unloaded(model_id, anyio.current_time()))
