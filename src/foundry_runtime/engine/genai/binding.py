"""The wheel's own C library, called by name.

Knows: which C functions the engine needs, their types, which of them compute; how a native error becomes an
exception, and how a native object is freed exactly once.
Refuses to know: jobs, slices, sampling.

Why not the wheel's Python module: it holds the interpreter lock through a whole prefill, and an event loop
stands still for seconds. Here what computes, allocates or frees goes through `CDLL`, which lets go of the
lock; what only looks goes through `PyDLL`, because getting the lock back may take longer than looking.

Never bind what returns a value instead of a result: a C++ exception in it ends the process (asking a
terminated generator whether it is done). Nor the functions for device ids, which crash in this wheel.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.metadata
import math
import os
from collections.abc import Callable, Mapping, Sequence
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t, c_void_p
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, TypeVar, final

import numpy as np
import numpy.typing as npt

from foundry_proto.errors import LocalProtocolError
from foundry_runtime.platform import shared_library_name

__all__ = ["GenaiError", "Generator", "Library", "Model", "load_library"]

_PACKAGE: Final = "onnxruntime-genai"

_FLOAT32: Final = 1
"""`OgaElementType_float32`: the number that ONNX gives this type."""

_NEVER: Final = -1e9
"""A logit that loses against 0."""

_Function: TypeAlias = Callable[..., Any]
_Floats: TypeAlias = npt.NDArray[np.float32]
_T = TypeVar("_T")

_HANDLE: Final = c_void_p
_OUT: Final = POINTER(c_void_p)

# Those that give an `OgaResult *`, null for success: our name: (name in C, argument types).
_COMPUTING: Final[Mapping[str, tuple[str, Sequence[Any]]]] = {
    "create_config": ("OgaCreateConfig", (c_char_p, _OUT)),
    "create_model": ("OgaCreateModelFromConfig", (_HANDLE, _OUT)),
    "create_generator": ("OgaCreateGenerator", (_HANDLE, _HANDLE, _OUT)),
    "append_tokens": ("OgaGenerator_AppendTokens", (_HANDLE, c_void_p, c_size_t)),
    "generate_next_token": ("OgaGenerator_GenerateNextToken", (_HANDLE,)),
    "get_logits": ("OgaGenerator_GetLogits", (_HANDLE, _OUT)),
}
_LOOKING: Final[Mapping[str, tuple[str, Sequence[Any]]]] = {
    "clear_providers": ("OgaConfigClearProviders", (_HANDLE,)),
    "append_provider": ("OgaConfigAppendProvider", (_HANDLE, c_char_p)),
    "overlay_config": ("OgaConfigOverlay", (_HANDLE, c_char_p)),
    "create_params": ("OgaCreateGeneratorParams", (_HANDLE, _OUT)),
    "set_number": ("OgaGeneratorParamsSetSearchNumber", (_HANDLE, c_char_p, c_double)),
    "set_bool": ("OgaGeneratorParamsSetSearchBool", (_HANDLE, c_char_p, c_bool)),
    "choose_next_token": ("OgaGenerator_GenerateNextToken", (_HANDLE,)),  # right after `set_logits`
    "get_next_tokens": (
        "OgaGenerator_GetNextTokens",
        (_HANDLE, POINTER(POINTER(c_int32)), POINTER(c_size_t)),
    ),
    "rewind_to": ("OgaGenerator_RewindTo", (_HANDLE, c_size_t)),
    "set_logits": ("OgaGenerator_SetLogits", (_HANDLE, _HANDLE)),
    "create_tensor": (
        "OgaCreateTensorFromBuffer",
        (c_void_p, POINTER(c_int64), c_size_t, c_int, _OUT),
    ),
    "get_type": ("OgaTensorGetType", (_HANDLE, POINTER(c_int))),
    "get_rank": ("OgaTensorGetShapeRank", (_HANDLE, POINTER(c_size_t))),
    "get_shape": ("OgaTensorGetShape", (_HANDLE, POINTER(c_int64), c_size_t)),
    "get_data": ("OgaTensorGetData", (_HANDLE, _OUT)),
}
# Those that give nothing. A model and a generator own so much memory that freeing it takes its time.
_FREEING: Final = {"destroy_model": "OgaDestroyModel", "destroy_generator": "OgaDestroyGenerator"}
_FREEING_LITTLE: Final = {
    "destroy_config": "OgaDestroyConfig",
    "destroy_params": "OgaDestroyGeneratorParams",
    "destroy_tensor": "OgaDestroyTensor",
    "destroy_result": "OgaDestroyResult",
}
_ERROR_TEXT: Final = "OgaResultGetError"


class GenaiError(Exception):
    """onnxruntime-genai's own words for what it could not do, or why it cannot be used at all."""


@final
class Library:
    """The C functions that are needed, bound and checked, as `library["append_tokens"]`.

    Args:
        path: The shared library. onnxruntime's own must be in the process already.

    Raises:
        GenaiError: The library cannot be loaded, or lacks a function: the text names it and the installed
            version.
    """

    def __init__(self, path: Path) -> None:
        try:
            unlocked, locked = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
        except OSError as error:
            raise GenaiError(f"{path} ({_version()}) cannot be loaded: {error}") from error
        symbols = [symbol for symbol, _ in (*_COMPUTING.values(), *_LOOKING.values())]
        symbols += [*_FREEING.values(), *_FREEING_LITTLE.values(), _ERROR_TEXT]
        missing = sorted({symbol for symbol in symbols if not hasattr(unlocked, symbol)})
        if missing:
            raise GenaiError(
                f"{path} ({_version()}) has no function {', '.join(missing)}: this version cannot be used"
            )
        self._functions: dict[str, _Function] = {}
        self._error_text = _bind(locked, _ERROR_TEXT, (c_void_p,), c_char_p)
        for library, results, nothings in (
            (unlocked, _COMPUTING, _FREEING),
            (locked, _LOOKING, _FREEING_LITTLE),
        ):
            for name, (symbol, arguments) in results.items():
                self._functions[name] = _bind(library, symbol, arguments, c_void_p, self._check)
            for name, symbol in nothings.items():
                self._functions[name] = _bind(library, symbol, (c_void_p,), None)

    def __getitem__(self, name: str) -> _Function:
        return self._functions[name]

    def _check(self, result: int | None, _function: object, _arguments: object) -> None:
        """Make an exception of a result that is an error, and free it."""
        if result is not None:
            text = self._error_text(result)
            self._functions["destroy_result"](result)
            raise GenaiError(" ".join(text.decode("utf-8", "replace").split()))


def _bind(
    library: ctypes.CDLL,
    symbol: str,
    arguments: Sequence[Any],
    result: Any,  # a ctypes type, or None
    check: _Function | None = None,
) -> _Function:
    function = library[symbol]  # a new object each time, so types set here are this row's alone
    function.argtypes = arguments
    function.restype = result
    if check is not None:
        function.errcheck = check
    return function


@functools.cache
def load_library() -> Library:
    """Load onnxruntime and the C library of the installed wheel, once: a process has one of it anyway.

    Telemetry is switched off first, unless the wheel was imported before: then that is the importer's affair.

    Raises:
        GenaiError: The package is not installed, or unusable.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        # Its import finds onnxruntime's library on each system and loads it; the module itself is not used.
        # Loading both libraries without it saves 1 MB only.
        package = importlib.import_module("onnxruntime_genai")
    except ImportError as error:
        raise GenaiError(f"{_PACKAGE} cannot be imported (install foundry-proto[genai]): {error}") from error
    return Library(Path(str(package.__file__)).parent / shared_library_name(_PACKAGE))


def _version() -> str:
    try:
        return f"{_PACKAGE} {importlib.metadata.version(_PACKAGE)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{_PACKAGE}, version unknown"


class _Handle:
    """A native object, freed once: by `close`, or by leaving the `with` block.

    There is no `__del__`: what was not closed when the interpreter ends goes with the process, and never in
    the middle of its end.
    """

    def __init__(self, destroy: _Function) -> None:
        self._destroy = destroy
        self._pointer = c_void_p()

    @property
    def pointer(self) -> c_void_p:
        """For a native call.

        Raises:
            LocalProtocolError: It is freed; the native call would crash.
        """
        if self._pointer.value is None:
            raise LocalProtocolError(f"this {type(self).__name__.strip('_').lower()} is closed")
        return self._pointer

    def close(self) -> None:
        """Free it. Calling it again does nothing."""
        if self._pointer.value is not None:
            pointer, self._pointer = self._pointer, c_void_p()
            self._destroy(pointer)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Config(_Handle):
    def __init__(self, library: Library, folder: Path) -> None:
        super().__init__(library["destroy_config"])
        # `fsencode` gives UTF-8 on every system that is set up for it, and on Windows always.
        library["create_config"](os.fsencode(folder), byref(self._pointer))


class _Params(_Handle):
    def __init__(self, library: Library, model: Model) -> None:
        super().__init__(library["destroy_params"])
        library["create_params"](model.pointer, byref(self._pointer))


class _Tensor(_Handle):
    def __init__(self, library: Library) -> None:
        super().__init__(library["destroy_tensor"])


@final
class Model(_Handle):
    """A loaded model.

    Args:
        library: The bound functions.
        folder: The model folder, with its `genai_config.json`.
        overlay: JSON that is merged into that configuration.
        provider: The execution provider, in place of those that the configuration names with their options.

    Raises:
        GenaiError: It cannot be loaded.
    """

    def __init__(self, library: Library, folder: Path, overlay: str, *, provider: str | None = None) -> None:
        super().__init__(library["destroy_model"])
        self.library = library
        with _Config(library, folder) as config:
            if provider is not None:
                library["clear_providers"](config.pointer)
                library["append_provider"](config.pointer, provider.encode())
            library["overlay_config"](config.pointer, overlay.encode())
            library["create_model"](config.pointer, byref(self._pointer))


@final
class Generator(_Handle):
    """One sequence with its KV cache, allocated at once for `max_length` tokens.

    Args:
        model: May be closed before the generator: the native objects count their users.
        max_length: Most tokens of prompt and output together.

    Raises:
        GenaiError: The KV cache cannot be allocated.
    """

    def __init__(self, model: Model, *, max_length: int) -> None:
        library = model.library
        super().__init__(library["destroy_generator"])
        self._library = library
        self._hot: _OneHot | None = None
        with _Params(library, model) as params:
            # The folder's own search defaults are for those who sample with the wheel; here they would bend
            # the greedy choice (repetition_penalty) or end it elsewhere (min_length).
            for name, value in (*_PLAIN_SEARCH.items(), ("max_length", max_length)):
                setter = "set_bool" if isinstance(value, bool) else "set_number"
                library[setter](params.pointer, name.encode(), value)
            library["create_generator"](model.pointer, params.pointer, byref(self._pointer))

    def append(self, tokens: npt.NDArray[np.int32]) -> None:
        """Compute the tokens' part of the sequence. Ids must be known: the native code does not look."""
        tokens = np.ascontiguousarray(tokens, dtype=np.int32)
        self._library["append_tokens"](self.pointer, tokens.ctypes.data, len(tokens))

    def next_token(self) -> int:
        """Compute what is not computed yet, and choose the likeliest token."""
        self._library["generate_next_token"](self.pointer)
        return self._chosen()

    def logits(self) -> _Floats:
        """Compute what is not computed yet.

        Returns:
            The logits of the next token, one float32 a token id: a copy.
        """
        return self.with_logits(np.copy)

    def with_logits(self, use: Callable[[_Floats], _T]) -> _T:
        """Compute what is not computed yet, and let `use` look at the next token's logits.

        They lie in native memory that is gone when `use` returns: a copy of them costs 0.1 ms.
        """
        library = self._library
        with _Tensor(library) as tensor:
            library["get_logits"](self.pointer, byref(tensor._pointer))  # noqa: SLF001 - filled by the call
            return use(_last_row(library, tensor))

    def choose(self, token: int, vocabulary: int) -> None:
        """Make `token` the next one, whose logits were just taken; it is computed by what is asked next."""
        if self._hot is None:
            self._hot = _OneHot(self._library, vocabulary)
        self._hot.point_at(token)
        self._library["set_logits"](self.pointer, self._hot.pointer)
        self._library["choose_next_token"](self.pointer)

    def rewind_to(self, length: int) -> None:
        """Forget the tokens beyond this length. `append` must follow, or the last one is computed again.

        Raises:
            GenaiError: This kind of model cannot go back.
        """
        self._library["rewind_to"](self.pointer, length)

    def close(self) -> None:
        """Free it and its KV cache. Calling it again does nothing."""
        if self._hot is not None:
            self._hot.close()
        super().close()

    def _chosen(self) -> int:
        tokens, count = POINTER(c_int32)(), c_size_t()
        self._library["get_next_tokens"](self.pointer, byref(tokens), byref(count))
        return int(tokens[0])


_PLAIN_SEARCH: Final[Mapping[str, bool | float]] = {
    "do_sample": False,
    "batch_size": 1,
    "num_beams": 1,
    "num_return_sequences": 1,
    "min_length": 0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    # Nothing is drawn by the native search, but without a seed it asks the processor for 600 random words:
    # 12 ms, more than a token takes.
    "random_seed": 0,
}


@final
class _OneHot(_Handle):
    """Logits of which all but one can never be chosen: how a token is imposed on the native search."""

    def __init__(self, library: Library, vocabulary: int) -> None:
        super().__init__(library["destroy_tensor"])
        self._values = np.full(vocabulary, _NEVER, dtype=np.float32)  # the tensor's memory: kept alive here
        self._token = 0
        shape = (c_int64 * 3)(1, 1, vocabulary)
        library["create_tensor"](self._values.ctypes.data, shape, 3, _FLOAT32, byref(self._pointer))

    def point_at(self, token: int) -> None:
        self._values[self._token] = _NEVER
        self._values[token] = 0.0
        self._token = token


def _last_row(library: Library, tensor: _Tensor) -> _Floats:
    """A tensor's last row, its values for the sequence's last token; valid while the tensor is."""
    kind, rank, data = c_int(), c_size_t(), c_void_p()
    library["get_type"](tensor.pointer, byref(kind))
    library["get_rank"](tensor.pointer, byref(rank))
    shape = (c_int64 * rank.value)()
    library["get_shape"](tensor.pointer, shape, rank.value)
    library["get_data"](tensor.pointer, byref(data))
    sizes = list(shape)
    if kind.value != _FLOAT32 or data.value is None or 0 in sizes:
        raise GenaiError(f"expected float32 logits, got a tensor of type {kind.value} and shape {sizes}")
    # The last row, wherever it lies: a model that is not pruned gives a row for each position.
    count = sizes[-1]
    address = data.value + (math.prod(sizes) - count) * ctypes.sizeof(ctypes.c_float)
    return np.frombuffer((ctypes.c_float * count).from_address(address), dtype=np.float32)
