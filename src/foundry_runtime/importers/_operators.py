"""Writing ONNX nodes: one writer for 8-bit matrices, one for float32.

Knows: the operators that onnxruntime has for each kind of matrix, and how their weights must lie.
Refuses to know: how a model is put together from them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from foundry_runtime.importers._reader import FloatArray, GgufFile
from foundry_runtime.importers._weights import BLOCK_SIZE, DataFile, Rows, iter_rows, quantise
from foundry_runtime.importers.errors import UnsupportedModel

__all__ = ["MICROSOFT", "Float32Writer", "GraphWriter", "Int8Writer"]

MICROSOFT: Final = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_OPSET: Final = 21
_IR_VERSION: Final = 10
_BITS: Final = 8
# The operator may round activations to 8 bits as well, which is what makes it fast on a processor.
_ACCURACY_LEVEL: Final = 4


class GraphWriter(ABC):
    """Collects nodes, and writes weights the moment a node needs them.

    Args:
        file: Where weights come from.
        data: Where weights go.
        progress: Told the share of the weights that is written, from 0 to 1.
    """

    def __init__(self, file: GgufFile, data: DataFile, progress: Callable[[float], None]) -> None:
        self._file = file
        self._data = data
        self._progress = progress
        self._values_written = 0
        self._values = sum(tensor.n_rows * tensor.shape[-1] for tensor in file.tensors.values())
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def input(self, name: str, kind: int, shape: Sequence[str | int]) -> str:
        """Declare an input of the graph; a string stands for an extent known only at run time."""
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, shape: Sequence[str | int]) -> None:
        """Declare that this value, float32, is an output of the graph."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def node(
        self,
        operator: str,
        inputs: Sequence[str],
        outputs: str | Sequence[str],
        *,
        domain: str = "",
        **attributes: float,
    ) -> str:
        """Add a node.

        Returns:
            The name of its first output.
        """
        names = [outputs] if isinstance(outputs, str) else list(outputs)
        node = helper.make_node(operator, inputs, names, name=names[0], domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self._nodes.append(node)
        return names[0]

    def constant(self, name: str, value: int | list[int]) -> str:
        """Add a small int64 constant."""
        self._initializers.append(onnx.numpy_helper.from_array(np.array(value, dtype=np.int64), name))
        return name

    def array(
        self, name: str, shape: Sequence[int], pieces: Iterable[npt.NDArray[np.generic]]
    ) -> onnx.TensorProto:
        """Write an array into the data file and make it an initializer."""
        proto = self._data.write(name, shape, pieces)
        self._initializers.append(proto)
        return proto

    def vector(self, name: str) -> str:
        """Write a one-dimensional tensor of the file as it is."""
        tensor = self._file.tensors[name]
        self.array(name, tensor.shape, self._iter_rows([Rows(tensor=tensor)]))
        return name

    @abstractmethod
    def linear(self, name: str, value: str, parts: Sequence[Rows]) -> str:
        """Multiply by a matrix whose rows, one for each output feature, are those of all parts."""

    @abstractmethod
    def embedding(self, name: str, ids: str, table: str) -> str:
        """Look up rows of the tensor `table`."""

    @abstractmethod
    def tied_head(self, name: str, value: str, table: str) -> str:
        """Multiply by the tensor that `embedding` has looked up in."""

    def model(self, name: str) -> onnx.ModelProto:
        """Everything that was added, as one model."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._initializers)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=_IR_VERSION,
            producer_name="foundry-proto",
        )

    def _iter_rows(self, parts: Sequence[Rows]) -> Iterator[FloatArray]:
        for rows in iter_rows(self._file, parts):
            yield rows
            self._values_written += rows.size
            self._progress(min(1.0, self._values_written / self._values))


class Int8Writer(GraphWriter):
    """Matrices as blocks of 8-bit numbers; the embedding and a tied head share one copy."""

    def __init__(self, file: GgufFile, data: DataFile, progress: Callable[[float], None]) -> None:
        super().__init__(file, data, progress)
        self._tables: dict[str, tuple[onnx.TensorProto, onnx.TensorProto]] = {}

    def linear(self, name: str, value: str, parts: Sequence[Rows]) -> str:
        """Multiply by a matrix; see `GraphWriter.linear`."""
        numbers, scales = self._quantised(f"{name}.weight", parts)
        return self._product(name, value, numbers, scales)

    def embedding(self, name: str, ids: str, table: str) -> str:
        """Look up rows; see `GraphWriter.embedding`."""
        numbers, scales = self._quantised(table, [Rows(tensor=self._file.tensors[table])])
        n_rows, n_blocks, _ = numbers.dims
        # The same bytes with a row's blocks joined, which is the shape that the look-up wants.
        joined = DataFile.alias(numbers, f"{table}.joined", [n_rows, n_blocks * BLOCK_SIZE])
        self._initializers.append(joined)
        self._tables[table] = numbers, scales
        return self.node(
            "GatherBlockQuantized",
            [joined.name, ids, scales.name],
            name,
            domain=MICROSOFT,
            bits=_BITS,
            block_size=BLOCK_SIZE,
            gather_axis=0,
            quantize_axis=1,
        )

    def tied_head(self, name: str, value: str, table: str) -> str:
        """Multiply by the embedding; see `GraphWriter.tied_head`."""
        numbers, scales = self._tables[table]
        return self._product(name, value, numbers, scales)

    def _product(self, name: str, value: str, numbers: onnx.TensorProto, scales: onnx.TensorProto) -> str:
        n_rows, n_blocks, _ = numbers.dims
        return self.node(
            "MatMulNBits",
            [value, numbers.name, scales.name],
            name,
            domain=MICROSOFT,
            N=n_rows,
            K=n_blocks * BLOCK_SIZE,
            bits=_BITS,
            block_size=BLOCK_SIZE,
            accuracy_level=_ACCURACY_LEVEL,
        )

    def _quantised(self, name: str, parts: Sequence[Rows]) -> tuple[onnx.TensorProto, onnx.TensorProto]:
        n_rows, n_columns = _extents(parts)
        if n_columns % BLOCK_SIZE:
            raise UnsupportedModel(
                f"tensor {parts[0].tensor.name}: a row of {n_columns} values does not divide into int8 blocks"
                f" of {BLOCK_SIZE}: import it with float32 weights"
            )
        n_blocks = n_columns // BLOCK_SIZE
        # A scale for 32 numbers: an eighth of the matrix stays in memory until the numbers are written.
        scales: list[FloatArray] = []

        def numbers() -> Iterator[npt.NDArray[np.uint8]]:
            for rows in self._iter_rows(parts):
                piece, its_scales = quantise(rows)
                scales.append(its_scales)
                yield piece

        proto = self.array(f"{name}.numbers", [n_rows, n_blocks, BLOCK_SIZE], numbers())
        return proto, self.array(f"{name}.scales", [n_rows, n_blocks], scales)


class Float32Writer(GraphWriter):
    """Matrices as they are in the file, in full precision; for tests of the graph, and for comparison."""

    def linear(self, name: str, value: str, parts: Sequence[Rows]) -> str:
        """Multiply by a matrix; see `GraphWriter.linear`."""
        n_rows, n_columns = _extents(parts)
        # The operator wants a column for each output feature, so one matrix must be whole at a time.
        columns = np.empty((n_columns, n_rows), dtype=np.float32)
        start = 0
        for rows in self._iter_rows(parts):
            columns[:, start : start + len(rows)] = rows.T
            start += len(rows)
        proto = self.array(f"{name}.weight.columns", columns.shape, [columns])
        return self.node("MatMul", [value, proto.name], name)

    def embedding(self, name: str, ids: str, table: str) -> str:
        """Look up rows; see `GraphWriter.embedding`."""
        parts = [Rows(tensor=self._file.tensors[table])]
        proto = self.array(table, _extents(parts), self._iter_rows(parts))
        return self.node("Gather", [proto.name, ids], name, axis=0)

    def tied_head(self, name: str, value: str, table: str) -> str:
        """Multiply by the embedding, written once more as columns; see `GraphWriter.tied_head`."""
        return self.linear(name, value, [Rows(tensor=self._file.tensors[table])])


def _extents(parts: Sequence[Rows]) -> tuple[int, int]:
    return sum(part.tensor.n_rows for part in parts), parts[0].tensor.shape[-1]
