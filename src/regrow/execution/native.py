"""The compiled kernels: found, told which instruction set to use, called on tensors in lanes."""

from __future__ import annotations

import os
import warnings
from ctypes import CDLL, c_float, c_int, c_int64, c_void_p
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import torch  # before the library, so that both share one pool of OpenMP threads
from torch import Tensor

from regrow.core.errors import RegrowError, choose

if TYPE_CHECKING:
    from regrow.execution.index import Index

SWITCH = "REGROW_ISA"
NAME = "regrow_kernels.so"
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
    return isa() != "reference" and all(t.dtype in _BYTES and t.device.type == "cpu" for t in activations)


def product(index: Index, values: Tensor, bias: Tensor | None, x: Tensor, y: Tensor) -> None:
    """y [N, out] = x W^T + b; x [N, in] and y in lanes, of one type; values and bias float32."""
    tensors = map(_at, (values, bias, x, y))
    _done(_library().regrow_product(*_sizes(index, values), *tensors, *_lanes(x)))


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

    grad, x, dx in lanes, of one type; values, dw, db float32.
    """
    tensors = map(_at, (values, grad, x, dx, dw, db))
    _done(_library().regrow_gradients(*_sizes(index, values), *tensors, *_lanes(x)))


def _sizes(index: Index, values: Tensor) -> tuple[int, int, int, int]:
    return index.table.data_ptr(), *index.shape, values.shape[0]


def _lanes(x: Tensor) -> tuple[bool, int, int]:
    return x.dtype is torch.bfloat16, x.shape[0], torch.get_num_threads()


def transpose(x: Tensor, to: Tensor) -> None:
    """to [features, N] = x^T, both contiguous."""
    library = _library()
    run = library.regrow_transpose4 if _BYTES[x.dtype] == 4 else library.regrow_transpose2
    run(_at(x), *x.shape, _at(to), torch.get_num_threads())


def norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, batch: bool, into: tuple[Tensor, ...]
) -> None:
    """into: y [N, features] in lanes as x; mean and var, [N] or, if `batch`, [features]; all but x and y float32."""
    y, mean, var = into
    _library().regrow_norm(_at(x), _at(weight), _at(bias), eps, batch, _at(y), _at(mean), _at(var), *_grid(x))


def norm_gradients(
    grad: Tensor, x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, eps: float, batch: bool, dx: Tensor
) -> tuple[Tensor, Tensor]:
    """dx [N, features] in lanes as grad and x; returns dw and db [features], float32."""
    sums, dw, db = (torch.empty(size) for size in (0 if batch else 2 * x.shape[0], x.shape[1], x.shape[1]))
    _library().regrow_norm_gradients(
        *map(_at, (grad, x, mean, var, weight)), eps, batch, *map(_at, (sums, dx, dw, db)), *_grid(x)
    )
    return dw, db


def _grid(x: Tensor) -> tuple[bool, int, int, int]:
    return x.dtype is torch.bfloat16, x.shape[1], x.shape[0], torch.get_num_threads()


def index(positions: Tensor, shape: tuple[int, int], table: Tensor) -> None:
    """Fill the table of an `Index` from ascending flat positions [nnz], int32 or int64."""
    wide = positions.dtype is torch.int64
    _library().regrow_index(_at(positions), wide, positions.numel(), *shape, _at(table))


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _done(failed: int) -> None:
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
            f"regrow's compiled kernels are missing ({error}): sparse layers run in plain torch, correct and slower. "
            "With GCC or Clang installed, install regrow again.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    long, at = c_int64, c_void_p
    library.regrow_product.argtypes = [at, long, long, long, at, at, at, at, c_int, long, c_int]
    library.regrow_gradients.argtypes = [at, long, long, long, at, at, at, at, at, at, c_int, long, c_int]
    library.regrow_norm.argtypes = [at, at, at, c_float, c_int, at, at, at, c_int, long, long, c_int]
    back = library.regrow_norm_gradients
    back.argtypes = [at, at, at, at, at, c_float, c_int, at, at, at, at, c_int, long, long, c_int]
    library.regrow_index.argtypes = [at, c_int, long, long, long, at]
    for transpose in (library.regrow_transpose4, library.regrow_transpose2):
        transpose.argtypes = [at, long, long, at, c_int]
    return library
