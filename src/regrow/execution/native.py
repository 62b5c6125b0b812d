"""The compiled kernels: found, told which instruction set to use, called on tensors in lanes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from ctypes import CDLL, Array, c_int64
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import torch  # before the library, so that both share one pool of OpenMP threads
from torch import Tensor

from regrow.core.errors import RegrowError, choose
from regrow.execution.signatures import declare

if TYPE_CHECKING:
    from regrow.execution.index import Index

SWITCH = "REGROW_ISA"
NAME = "regrow_kernels.so"
ABI = 5
"""What regrow_abi() of the library must say: both are raised when a function of it changes."""

_NUMBERS = {"reference": -1, "portable": 0, "avx2": 1, "avx512": 2, "avx512bf16": 3}
_BYTES = {torch.float32: 4, torch.bfloat16: 2}
_chosen: str | None = None


def isa() -> str:
    """What runs the sparse ops: an instruction set, or "reference" (plain torch, no kernels)."""
    if _chosen is None:
        use(os.environ.get(SWITCH) or available()[0])
    assert _chosen is not None
    return _chosen


def use(name: str) -> None:
    """Run the sparse ops on this instruction set from here on; REGROW_ISA in the environment decides at the start.

    Raises:
        RegrowError: no such instruction set, or not on this processor and in this build.
    """
    global _chosen
    number = choose(_NUMBERS, name, f"instruction set ({SWITCH})")
    if name != "reference":
        if name not in available():
            raise RegrowError(f"{SWITCH}={name}: this processor and build have only: {', '.join(available())}.")
        _library().regrow_use(number)
    _chosen = name


def available() -> tuple[str, ...]:
    """The instruction sets of this processor and build, best first; "reference" is always there."""
    library = _find()
    has = [name for name, number in _NUMBERS.items() if library is not None and library.regrow_has(number)]
    return (*reversed(has), "reference")


def serves(*activations: Tensor) -> bool:
    """Can the kernels work on these? They take float32 and bfloat16 on the CPU."""
    for x in activations:
        if x.dtype not in _BYTES or not x.is_cpu:
            return False
    return isa() != "reference"


def product(index: Index, values: Tensor, bias: Tensor | None, x: Tensor, y: Tensor) -> None:
    """y [N, out] = x W^T + b; x [N, in] in lanes or in rows, y in lanes, of one type; values and bias float32."""
    done(_library().regrow_product(*_matrix(index, values), _at(bias), *_batch(x), _at(y), *_work(x)))


def gradients(
    index: Index,
    values: Tensor,
    grad: Tensor,
    x: Tensor,
    dx: Tensor | None,
    dw: Tensor | None,
    db: Tensor | None,
) -> None:
    """dx [N, in] = G W; dw [nnz] = (G^T X) at the surviving weights; db [out] = sum_n G.

    grad and x in lanes or in rows, dx as x but in lanes without dw, of one type; values, dw, db float32.
    """
    results = map(_at, (dx, dw, db))
    done(_library().regrow_gradients(*_matrix(index, values), *_batch(grad), *_batch(x), *results, *_work(x)))


def convolve(
    index: Index,
    values: Tensor,
    bias: Tensor | None,
    x: Tensor,
    y: Tensor,
    geometry: Sequence[int],
    scale: Tensor | None = None,
    add: Tensor | None = None,
    relu: bool = False,
) -> None:
    """y [N, O, H', W'] = scale (W * x) + b + add, and 0 where that is negative if `relu`. `geometry`: conv_ops.py.

    x, y and add in lanes, of one type; values, bias and scale [O] float32.
    """
    weights = index.table.data_ptr(), values.shape[0], values.data_ptr(), _at(scale), _at(bias)
    done(_library().regrow_convolve(*weights, sizes(x, y, geometry), _at(x), _at(add), relu, _at(y), *_kind(x)))


def convolve_gradients(
    index: Index,
    values: Tensor,
    grad: Tensor,
    x: Tensor,
    dx: Tensor | None,
    dw: Tensor | None,
    db: Tensor | None,
    geometry: Sequence[int],
) -> None:
    """dx as x, dw [nnz] at the surviving weights, db [O]; grad, x and dx in lanes, of one type; the others float32."""
    weights = index.table.data_ptr(), values.shape[0], values.data_ptr()
    given = map(_at, (grad, x, dx, dw, db))
    done(_library().regrow_convolve_gradients(*weights, sizes(x, grad, geometry), *given, *_kind(x)))


def filters(grad: Tensor, x: Tensor, geometry: Sequence[int], first: int, to: Tensor) -> None:
    """to [rows, C kh kw], float32 = the dense gradient of filters from `first` on; grad and x in lanes, of one type.

    bfloat16 only on instruction sets that multiply it by pairs.
    """
    given = sizes(x, grad, geometry), _at(grad), _at(x), first, to.shape[0], _at(to)
    done(_library().regrow_filters(*given, *_kind(x)))


def sizes(x: Tensor, y: Tensor, geometry: Sequence[int]) -> Array[c_int64]:
    """Of a convolution, or of pooling."""
    return (c_int64 * 15)(*x.shape, *y.shape[1:], *geometry)


def _kind(x: Tensor) -> tuple[bool, int]:
    return x.dtype is torch.bfloat16, torch.get_num_threads()


def _matrix(index: Index, values: Tensor) -> tuple[int, bool, int, int, int, int]:
    table, (out, width) = index
    return table.data_ptr(), table.dtype is torch.int16, out, width, values.shape[0], values.data_ptr()


def _batch(x: Tensor) -> tuple[int, bool]:
    """Where, and is it in rows?"""
    return x.data_ptr(), not x.t().is_contiguous()


def _work(x: Tensor) -> tuple[bool, int, int]:
    return x.dtype is torch.bfloat16, x.shape[0], torch.get_num_threads()


def transpose(x: Tensor, to: Tensor) -> None:
    """to [features, N] = x^T, both contiguous."""
    _library().regrow_transpose(_at(x), *x.shape, _at(to), _BYTES[x.dtype] == 2, torch.get_num_threads())


def layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, into: tuple[Tensor, ...]) -> None:
    """into: y [N, features] in lanes as x; mean and var [N]; all but x and y float32."""
    _library().regrow_layer_norm(_at(x), _at(weight), _at(bias), eps, *map(_at, into), *_grid(x))


def layer_norm_gradients(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, eps: float, dx: Tensor
) -> tuple[Tensor, Tensor]:
    """dx [N, features] in lanes as grad and x; returns dw and db [features], float32."""
    sums, dw, db = (torch.empty(size) for size in (2 * x.shape[0], x.shape[1], x.shape[1]))
    given, results = map(_at, (grad, x, mean, var, weight)), map(_at, (sums, dx, dw, db))
    _library().regrow_layer_norm_gradients(*given, eps, *results, *_grid(x))
    return dw, db


def batch_norm(
    x: Tensor,
    add: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    relu: bool,
    into: tuple[Tensor, ...],
    given: bool = False,
) -> None:
    """into: y [N, features, ...] in lanes as x, add; mean, var [features], read if `given`; vectors are float32."""
    work = (*map(_at, into), *_grid(x))
    _library().regrow_batch_norm(_at(x), _at(add), _at(weight), _at(bias), eps, relu, given, *work)


def batch_norm_gradients(
    of: tuple[Tensor | None, ...], eps: float, relu: bool, dx: Tensor, dadd: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`of`: grad, x, y (None if nothing was added), mean, var, weight, bias. dx, dadd [N, features, ...] in lanes as
    grad, x and y; returns dw and db [features], float32."""
    dw, db = (torch.empty(dx.shape[1]) for _ in range(2))
    results = map(_at, (dx, dadd, dw, db))
    _library().regrow_batch_norm_gradients(*map(_at, of), eps, relu, *results, *_grid(dx))
    return dw, db


def _grid(x: Tensor) -> tuple[bool, int, int, int]:
    return x.dtype is torch.bfloat16, x.shape[1], x.numel() // x.shape[1], torch.get_num_threads()


def index(positions: Tensor, shape: tuple[int, int], table: Tensor) -> None:
    """Fill the table of an `Index` from ascending flat positions [nnz], int32 or int64."""
    known = _at(positions), positions.dtype is torch.int64, positions.numel(), *shape
    done(_library().regrow_index(*known, table.dtype is torch.int16, _at(table), torch.get_num_threads()))


def pack(active: Tensor) -> Tensor:
    """One bit for each of these bools, in the order of memory: what `keep` takes. They fill their memory densely."""
    bits = torch.empty(-(-active.numel() // 32), dtype=torch.int32)
    _library().regrow_pack(_at(active), active.numel(), _at(bits))
    return bits


def keep(tensor: Tensor, bits: Tensor, rest: float) -> None:
    """tensor <- `rest` wherever its bit, in the order of memory, is not set. float32, dense in memory."""
    _library().regrow_keep(_at(tensor), _at(bits), tensor.numel(), rest, torch.get_num_threads())


def call(name: str, *arguments: Tensor | float | Array[c_int64] | None) -> Any:
    """A kernel by its name, on contiguous tensors and numbers."""
    given = [value.data_ptr() if isinstance(value, Tensor) else value for value in arguments]
    return getattr(_library(), f"regrow_{name}")(*given)


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def done(failed: int) -> None:
    if failed:
        raise MemoryError("regrow's kernels found no memory for their scratch")


def _library() -> CDLL:
    library = _find()
    assert library is not None
    return library


@cache
def _find() -> CDLL | None:
    try:
        library = CDLL(str(files(__package__) / NAME))
    except OSError as error:
        warnings.warn(
            f"regrow's compiled kernels are missing ({error}): sparse layers and masks run in plain torch, correct "
            "and slower. With GCC or Clang installed, install regrow again.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    if not hasattr(library, "regrow_abi") or library.regrow_abi() != ABI:
        raise RegrowError(
            "regrow's compiled kernels are of another version than its Python code: install regrow again."
        )
    declare(library)
    return library
