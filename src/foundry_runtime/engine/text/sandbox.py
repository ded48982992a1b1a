"""Jinja for templates from strangers: text work alone, and only so much of it.

Knows: what a template may name and call, how each such use is paid for, and how the syntax tree is changed
so that nothing escapes that. Refuses to know: what things cost, chats, model folders.

jinja2's own sandbox keeps a template away from Python, but bounds neither its time nor its memory. Here,
whatever can run more than once begins with a tick that pays for its whole body, and whatever costs more for
larger operands is paid for before it runs. Where jinja2 gives no hook (`~`, slices, comparisons), the tree
gets filters whose names no template can write. Filters that work lazily give lists, so that nothing is left
that works later, unpaid.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, cast

from jinja2 import nodes, pass_context
from jinja2.ext import Extension
from jinja2.ext import loopcontrols as LoopControls  # noqa: N812 (jinja2 names the class like a module)
from jinja2.filters import FILTERS
from jinja2.parser import Parser
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.tests import TESTS
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from foundry_runtime.engine.text.metering import (
    FILTER_PRICES,
    METHOD_PRICES,
    OPERATORS,
    TEST_PRICES,
    Meter,
    Price,
    pay_arguments,
)

__all__ = ["Sandbox", "metered"]

_CALL: Final = 20
"""What any call costs, in units of work."""


class _Space(Namespace):
    """What `namespace()` gives; prints as itself, because what it holds may be without end."""

    def __repr__(self) -> str:
        return "<namespace>"


class _Generation(Extension):
    """`{% generation %}` marks what a trainer learns from: here its body is rendered, and that is all."""

    tags = {"generation"}  # noqa: RUF012 (jinja2's way to declare it)

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Give the body in the place of the block."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class Sandbox(ImmutableSandboxedEnvironment):
    """An environment for one rendering, or one compilation: it holds the meter.

    Args:
        meter: What may be used.
    """

    intercepted_binops = frozenset(OPERATORS)

    def __init__(self, meter: Meter) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=(LoopControls, _Generation),
            optimized=False,  # what is computed while compiling would be paid by nobody
            finalize=_printed,
            cache_size=0,
        )
        self.meter = meter
        self.filters = _FILTERS
        # jinja2's types say less than it means: any callable will do.
        self.tests = _TESTS  # type: ignore[assignment]
        self.globals = {"dict": dict, "namespace": _Space, "range": safe_range}

    def is_safe_attribute(self, obj: object, attr: str, value: object) -> bool:
        """Allow methods that have a price, what a loop tells about itself, and names that were set."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        # What `groupby` gives has named fields.
        fields = getattr(type(obj), "_fields", ()) if isinstance(obj, tuple) else ()
        return isinstance(obj, LoopContext | Namespace) or attr in fields or attr in _methods(obj)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Pay for looking at the key: it may be a tuple of tuples."""
        if not isinstance(argument, str | int):
            self.meter.weigh(argument)
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ARG002 - jinja2's call
        """Pay for a binary operator, then apply it."""
        pay, apply = OPERATORS[operator]
        pay(self.meter, left, right)
        return apply(left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **named: Any) -> Any:
        """Pay for a call, then make it.

        A macro, a block and a recursive loop pay as they run.
        """
        self.meter.work(_CALL)
        # A range makes nothing yet, and has a limit of its own.
        if not isinstance(obj, Macro | BlockReference | LoopContext) and obj is not safe_range:
            # jinja2 adds these two for functions that look at the template's own variables.
            given = {
                name: value for name, value in named.items() if name not in {"_loop_vars", "_block_vars"}
            }
            self._pay_call(getattr(obj, "__wrapped__", obj), args, given)
        return super().call(context, obj, *args, **named)

    def _pay_call(self, obj: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        owner = getattr(obj, "__self__", None)
        price = _methods(owner).get(getattr(obj, "__name__", ""))
        if price is not None:
            price(self.meter, owner, args, named)
        else:
            self.meter.text(8 * pay_arguments(self.meter, args, named))


def metered(source: nodes.Template) -> nodes.Template:
    """Make a template's tree pay for what it does; changes the tree."""
    return cast("nodes.Template", _Metering().visit(source))


def _methods(obj: object) -> Mapping[str, Price]:
    for kind, prices in METHOD_PRICES.items():
        if isinstance(obj, kind):
            return prices
    return {}


# The syntax tree

_TICK, _JOIN, _SLICE, _WEIGH = "(tick)", "(join)", "(slice)", "(weigh)"
_REPEATED = nodes.For, nodes.Macro, nodes.CallBlock, nodes.Block


class _Metering(NodeTransformer):
    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802 - jinja2 calls it so
        # Before the body's and the test's own ticks are in them.
        per_item, per_test = _tick(node.body, node), _tick([node.test], node) if node.test else None
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(per_item, lineno=node.lineno))
        if node.test is not None and per_test is not None:
            node.test = nodes.And(per_test, node.test, lineno=node.lineno)
        return node

    def visit_Macro(self, node: nodes.Macro | nodes.CallBlock | nodes.Block) -> nodes.Node:  # noqa: N802 - as above
        tick = _tick(node.body, node)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(tick, lineno=node.lineno))
        return node

    visit_CallBlock = visit_Block = visit_Macro  # noqa: N815 - as above

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802 - as above
        self.generic_visit(node)
        return _filter(_JOIN, nodes.List(node.nodes, lineno=node.lineno), [])

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802 - as above
        self.generic_visit(node)
        if not isinstance(node.arg, nodes.Slice):
            return node
        cut = node.arg
        nothing = nodes.Const(None, lineno=node.lineno)
        return _filter(_SLICE, node.node, [cut.start or nothing, cut.stop or nothing, cut.step or nothing])

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:  # noqa: N802 - as above
        self.generic_visit(node)
        searches = any(operand.op in {"in", "notin"} for operand in node.ops)
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        # Comparing with a constant looks at as much as the constant has.
        if searches or sum(not isinstance(side, nodes.Const) for side in sides) > 1:
            node.expr = _weighed(node.expr)
            for operand in node.ops:
                operand.expr = _weighed(operand.expr)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:  # noqa: N802 - as above
        self.generic_visit(node)
        node.key = _weighed(node.key)
        return node


def _filter(name: str, value: nodes.Expr, args: list[nodes.Expr]) -> nodes.Filter:
    return nodes.Filter(value, name, args, [], None, None, lineno=value.lineno)


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return node if isinstance(node, nodes.Const) else _filter(_WEIGH, node, [])


def _tick(body: Iterable[nodes.Node], owner: nodes.Node) -> nodes.Expr:
    work, text = 4, 0  # the tick itself takes its time
    for node in _inside(body):
        work += 1
        if isinstance(node, nodes.TemplateData):
            text += len(node.data)
    return _filter(_TICK, nodes.Const(work, lineno=owner.lineno), [nodes.Const(text, lineno=owner.lineno)])


def _inside(body: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    """The nodes that run once when the body does: what is repeated inside has its own tick."""
    waiting = list(body)
    while waiting:
        node = waiting.pop()
        yield node
        repeated = ("body", "test") if isinstance(node, _REPEATED) else ()
        waiting.extend(node.iter_child_nodes(exclude=repeated))


# Filters and tests


def _meter(context: Context) -> Meter:
    return cast("Sandbox", context.environment).meter


@pass_context
def _printed(context: Context, value: object) -> str:
    """What stands in `{{ }}` becomes text here."""
    meter = _meter(context)
    if not isinstance(value, str):
        meter.weigh(value)
        value = str(value)
    meter.text(len(value))
    return value


@pass_context
def _ticking(context: Context, work: int, text: int) -> bool:
    meter = _meter(context)
    meter.text(text)
    meter.work(work)
    return True


@pass_context
def _joined(context: Context, values: list[object]) -> str:
    return "".join([_printed(context, value) for value in values])


@pass_context
def _sliced(context: Context, value: Any, start: Any, stop: Any, step: Any) -> Any:
    if isinstance(value, str | list | tuple):
        _meter(context).text(len(value) if isinstance(value, str) else 8 * len(value))
    return value[start:stop:step]


@pass_context
def _weighing(context: Context, value: Any) -> Any:
    _meter(context).weigh(value)
    return value


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as chat templates expect it: letters as they are, nothing escaped for HTML."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _paying(function: Callable[..., Any], price: Price) -> Callable[..., Any]:
    """The same filter or test, paid for before it runs. jinja2 never computes it while compiling."""
    wants = getattr(function, "jinja_pass_arg", None)  # set by jinja2's `pass_...` decorators

    @pass_context
    def paying(context: Context, value: Any, *args: Any, **named: Any) -> Any:
        price(_meter(context), value, args, named)
        if wants is None:
            result = function(value, *args, **named)
        else:
            passed = {
                "context": context,
                "eval_context": context.eval_ctx,
                "environment": context.environment,
            }[wants.name]
            result = function(passed, value, *args, **named)
        return list(result) if isinstance(result, Iterator) else result

    return paying


_FUNCTIONS: Final[Mapping[str, Any]] = {**FILTERS, "tojson": _tojson}
_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    **{name: _paying(_FUNCTIONS[name], price) for name, price in FILTER_PRICES.items()},
    _TICK: _ticking,
    _JOIN: _joined,
    _SLICE: _sliced,
    _WEIGH: _weighing,
}
_TESTS: Final[dict[str, Callable[..., Any]]] = {
    name: _paying(cast("Any", TESTS[name]), price) for name, price in TEST_PRICES.items()
}
