"""Hypothesis strategies from the annotations that messages are written in: any instance of any message.

They read the annotations on their own: a mistake in `codec.py` is not repeated here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs
from hypothesis import strategies as st

from foundry_proto.sentinels import ABSENT, Absent
from foundry_proto.wire import Between, Items

__all__ = ["JSON_VALUES", "TEXTS", "values_of"]

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
"""Unicode text, without lone surrogates."""

JSON_VALUES: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)


def values_of(tp: Any) -> st.SearchStrategy[Any]:
    """Any value that the annotation allows."""
    origin, args = get_origin(tp), get_args(tp)
    if origin in (Union, UnionType):
        return st.one_of(*(values_of(member) for member in args))
    if origin is Annotated:
        return _limited(args[0], args[1])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is tuple:
        return st.lists(values_of(args[0]), max_size=3).map(tuple)
    if origin is Mapping:
        return st.dictionaries(TEXTS, values_of(args[1]), max_size=3)
    if attrs.has(tp):
        fields = attrs.fields(attrs.resolve_types(tp, include_extras=True))
        return st.deferred(lambda: st.builds(tp, **{field.name: values_of(field.type) for field in fields}))
    return {
        str: TEXTS,
        int: st.integers(-(2**63), 2**63),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        object: JSON_VALUES,
        NoneType: st.none(),
        Absent: st.just(ABSENT),
    }[tp]


def _limited(tp: Any, limit: Between | Items) -> st.SearchStrategy[Any]:
    if isinstance(limit, Items):
        inner = values_of(get_args(tp)[0])
        return st.lists(inner, min_size=limit.least, max_size=min(limit.most, 3)).map(tuple)
    if tp is int:
        return st.integers(int(limit.least), int(limit.most))
    return st.floats(limit.least, limit.most)
