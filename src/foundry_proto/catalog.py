"""How models are called, in which order they are listed, and which of them a name means.

Knows: that an id is `NAME:VERSION`; that letter case never counts; which device an id names; that models of
one alias are variants of each other, and which variant comes first.
Refuses to know: which models there are.

Sources: for ids and the order of variants the public catalogue, whose clients take the first variant of an
alias; for names the union of what both generations' clients send.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, Protocol, TypeVar

__all__ = [
    "Device",
    "Variant",
    "base_of",
    "canonical_id",
    "device_of",
    "in_order",
    "is_meant",
    "newer_versions",
    "newest",
    "resolve",
    "same_model",
    "version_of",
    "versioned_id",
]

Device = Literal["CPU", "GPU", "NPU"]
"""Where a model computes, as lists of models spell it."""


class Variant(Protocol):
    """A model, as far as names and order are concerned."""

    @property
    def id(self) -> str:
        """`NAME:VERSION`."""
        ...

    @property
    def alias(self) -> str:
        """The short name that all variants share."""
        ...

    @property
    def created(self) -> int:
        """When it was made, in seconds since 1970; 0 if nobody knows."""
        ...

    @property
    def cached(self) -> bool:
        """Whether it can be used without being downloaded first."""
        ...


VariantT = TypeVar("VariantT", bound=Variant)

# A vendor's own GPU build comes before CUDA's: the public catalogue's order. Of the patterns in an id the
# first one here counts.
_DEVICES: Final[tuple[tuple[str, int, Device], ...]] = (
    ("-npu:", 0, "NPU"),
    ("-cuda-gpu:", 2, "GPU"),
    ("-generic-gpu:", 3, "GPU"),
    ("-gpu:", 1, "GPU"),
    ("-generic-cpu:", 5, "CPU"),
    ("-cpu:", 4, "CPU"),
)
_NO_DEVICE: Final = 6


def canonical_id(name: str) -> str:
    """The id that a folder's `Name` stands for: without a version it is version 0."""
    return name if ":" in name else f"{name}:0"


def versioned_id(name: str) -> str:
    """The id that a user gives a model: version 1 if they name none.

    Raises:
        ValueError: What stands behind the colon is no version.
    """
    base, version = _split(name)
    if version is not None:
        return name
    if ":" in base:
        raise ValueError(f"model id: expected NAME or NAME:NUMBER, got {name}")
    return f"{name}:1"


def base_of(model_id: str) -> str:
    """An id without its version."""
    return _split(model_id)[0]


def version_of(model_id: str) -> int:
    """An id's version as a number; -1 where it has none, or one that is no number."""
    return -1 if (version := _split(model_id)[1]) is None else version


def same_model(model_id: str, other_id: str) -> bool:
    """Whether two ids are one model's: letter case and a version's leading zeros do not count."""
    return _key(model_id) == _key(other_id)


def is_meant(model_id: str, name: str) -> bool:
    """Whether a name may mean this model as an id, with or without its version."""
    return same_model(model_id, name) or _is(base_of(model_id), name)


def device_of(model_id: str) -> Device | None:
    """The device that an id names, as in `phi-4-generic-gpu:1`; `None` if it names none."""
    return next((device for pattern, _, device in _DEVICES if pattern in _searched(model_id)), None)


def in_order(models: Iterable[VariantT]) -> list[VariantT]:
    """Put models into the order in which clients expect them.

    Aliases stand in alphabetical order; the variants of each by device (NPU, a vendor's GPU, CUDA, any GPU, a
    vendor's CPU, any CPU, others), then newer versions, then later ones, then by id.
    """
    return sorted(models, key=lambda model: (model.alias.casefold(), *_rank(model)))


def resolve(models: Iterable[VariantT], name: str) -> VariantT | None:
    """Find the model that a name means, in any letter case.

    In this order: an id; an id without its version, where the highest cached one counts, else the highest; an
    alias, where the first cached variant counts, else the first. An alias may carry a version too.

    Args:
        models: Those that there are, in any order.
        name: As a client wrote it.

    Returns:
        The model; `None` if there is none of that name.
    """
    candidates = list(models)
    exact = [model for model in candidates if same_model(model.id, name)]
    if exact:
        return exact[0]
    versions = [model for model in candidates if is_meant(model.id, name)]
    if versions:
        return max(versions, key=lambda model: (model.cached, version_of(model.id)))
    base, version = _split(name)
    variants = [
        model for model in candidates if _is(model.alias, base) and version in {None, version_of(model.id)}
    ]
    return min(variants, key=lambda model: (not model.cached, *_rank(model)), default=None)


def newest(models: Iterable[VariantT], name: str) -> VariantT | None:
    """Find the model that a name means to who wants the newest: what `resolve` gives, in its highest version.

    A name that carries a version means that one alone.
    """
    candidates = list(models)
    found = resolve(candidates, name)
    if found is None or _split(name)[1] is not None:
        return found
    return max(
        (model for model in candidates if _is(base_of(model.id), base_of(found.id))),
        key=lambda model: version_of(model.id),
    )


def newer_versions(models: Iterable[VariantT]) -> list[tuple[VariantT, VariantT]]:
    """Find what is cached and has a newer version that is not.

    Returns:
        Of each such model the highest cached version and the highest of all, in the order of `models`.
    """
    versions: dict[str, list[VariantT]] = {}
    for model in models:
        versions.setdefault(base_of(model.id).casefold(), []).append(model)
    found = []
    for of_one in versions.values():
        cached = [model for model in of_one if model.cached]
        last = max(of_one, key=lambda model: (version_of(model.id), model.cached))
        if cached and not last.cached:
            found.append((max(cached, key=lambda model: version_of(model.id)), last))
    return found


def _rank(model: Variant) -> tuple[int, int, int, str]:
    priority = next(
        (priority for pattern, priority, _ in _DEVICES if pattern in _searched(model.id)), _NO_DEVICE
    )
    return (priority, -version_of(model.id), -model.created, model.id)


def _searched(model_id: str) -> str:
    return canonical_id(model_id).casefold()


def _is(name: str, other: str) -> bool:
    return name.casefold() == other.casefold()


def _key(model_id: str) -> tuple[str, int | None]:
    base, version = _split(model_id)
    return base.casefold(), version


def _split(name: str) -> tuple[str, int | None]:
    base, colon, version = name.rpartition(":")
    if colon and version.isascii() and version.isdecimal() and len(version) < 10:
        return base, int(version)
    return name, None
