"""Shapes and orders: free where views express them, copied where they do not."""

from __future__ import annotations

from collections.abc import Sequence

from npusim.graph import Node

from ..context import Context, lowers
from ..view import View, dense
from .assemble import copy


@lowers("reshape", "reinterpret")
def reshape(ctx: Context, node: Node) -> None:
    """Regroup factors; where there is no grouping, copy to the plain order first."""
    shape = ctx.tensor(node.output).shape
    view = ctx.view(node.inputs[0]).reshape(shape)
    if view is None:
        view = relayout(ctx, node.inputs[0], range(len(ctx.tensor(node.inputs[0]).shape))).reshape(shape)
    assert view is not None, "a dense tensor has every shape"
    alias(ctx, node, view)


@lowers("transpose")
def transpose(ctx: Context, node: Node) -> None:
    """Another order of the axes of the same bytes."""
    alias(ctx, node, ctx.view(node.inputs[0]).transpose(node.attributes["permutation"]))


def alias(ctx: Context, node: Node, view: View) -> None:
    """Let a result be a view of its operand."""
    ctx.views[node.output] = view


def relayout(ctx: Context, name: str, order: Sequence[int]) -> View:
    """A view of the tensor whose axes lie densely in ``order``, each as one factor; copied where it is not so yet."""
    view, tensor = ctx.view(name), ctx.tensor(name)
    wanted = dense(view.storage, tensor.shape, order)
    if view.axes == wanted.axes:
        return view
    made = f"{name}@{''.join(map(str, order))}"
    if made not in ctx.views:
        ctx.views[made] = ctx.place(made, tensor, dense(made, tensor.shape, order))
        ctx.copies.setdefault(name, []).append(made)
        copy(ctx, view, ctx.views[made])
    return ctx.views[made]
