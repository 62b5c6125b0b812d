"""A function of tensors as a graph of operations, recorded once, without what is the same in every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import getitem
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

_VIEWS = {
    getitem,
    torch.ops.aten.view.default,
    torch.ops.aten.permute.default,
    torch.ops.aten.unbind.int,
    torch.ops.aten.select.int,
    torch.ops.aten.t.default,
    torch.ops.aten.transpose.int,
    torch.ops.aten.unsqueeze.default,
    torch.ops.aten.squeeze.dim,
    torch.ops.aten._unsafe_view.default,
}
"""What gives other views of its tensor, in which later changes of that tensor show."""


def recorded(function: Callable[..., Tensor], x: Tensor, tensors: Sequence[Tensor]) -> Callable[[Tensor], Tensor]:
    """x -> function(x, *tensors), for x of this shape and type. What only views `tensors` is done once, here.

    Raises:
        Exception: of torch's tracer, for a function that decides by the values of x.
    """
    module = make_fx(function)(x, *tensors)
    graph: fx.Graph = module.graph
    first, *given = (node for node in graph.nodes if node.op == "placeholder")
    known: dict[fx.Node, Any] = dict(zip(given, tensors, strict=True))
    for node in graph.nodes:
        if node.op == "call_function" and node.target in _VIEWS and {*node.all_input_nodes} <= known.keys():
            args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = node.target(*args, **kwargs)
    needed = [node for node in known if any(user not in known for user in node.users)]
    for number, node in enumerate(needed):
        module.register_buffer(f"view{number}", known[node].detach(), persistent=False)
        with graph.inserting_after(first):
            node.replace_all_uses_with(graph.get_attr(f"view{number}"))
    for node in reversed(known):
        graph.erase_node(node)
    module.recompile()
    return module
