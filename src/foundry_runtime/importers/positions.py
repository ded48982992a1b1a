"""A graph that gives the logits of the positions that it is asked for, made of one that gives the last's.

Knows: how the importer, and onnxruntime-genai's builder, cut a graph down to its last position.
Refuses to know: who wants more of them. The weights stay where they are: only the graph is rewritten.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["with_logit_positions"]


def with_logit_positions(graph: Path, *, logits: str, positions: str) -> bytes | None:
    """Rewrite a graph so that it takes the positions whose logits are wanted.

    Args:
        graph: The ONNX file.
        logits: The name of its output (batch, 1, vocabulary).
        positions: The name of the input that it gets: int64, of one dimension; which of the computed
            positions have logits, from 0 on.

    Returns:
        The graph without its weights, whose output is (batch, positions, vocabulary); `None` where there is
        no place, or more than one, at which all positions but the last are dropped.

    Raises:
        OSError: The file cannot be read.
    """
    model = onnx.load(graph, load_external_data=False)
    constants = {one.name: one for one in model.graph.initializer}
    found = [
        node
        for node in model.graph.node
        if node.op_type == "Gather"
        and any(attribute.name == "axis" and attribute.i == 1 for attribute in node.attribute)
        and node.input[1] in constants
        and np.array_equal(numpy_helper.to_array(constants[node.input[1]]), [-1])
    ]
    if len(found) != 1:
        return None
    (node,) = found
    dropped = node.input[1]
    node.input[1] = positions
    if not any(dropped in other.input for other in model.graph.node):
        model.graph.initializer.remove(constants[dropped])
    model.graph.input.append(helper.make_tensor_value_info(positions, TensorProto.INT64, ["n_positions"]))
    for output in model.graph.output:
        if output.name == logits:
            shape = output.type.tensor_type.shape
            shape.dim[1].ClearField("dim_value")
            shape.dim[1].dim_param = "n_positions"
    return bytes(model.SerializeToString())
