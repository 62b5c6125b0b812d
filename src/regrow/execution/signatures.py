"""The types that the functions of the compiled library take and give, for ctypes."""

from __future__ import annotations

from ctypes import CDLL, c_float, c_int, c_int64, c_void_p
from typing import Any


def declare(library: CDLL) -> None:
    """Of every function that Python calls."""
    long, at = c_int64, c_void_p
    matrix: list[Any] = [at, c_int, long, long, long, at]
    batch: list[Any] = [at, c_int]
    work: list[Any] = [c_int, long, c_int]
    library.regrow_product.argtypes = [*matrix, at, *batch, at, *work]
    library.regrow_gradients.argtypes = [*matrix, *batch, *batch, at, at, at, *work]
    library.regrow_convolve.argtypes = [at, long, at, at, at, at, at, at, c_int, at, c_int, c_int]
    library.regrow_convolve_gradients.argtypes = [at, long, at, at, at, at, at, at, at, c_int, c_int]
    library.regrow_filters.argtypes = [at, at, at, long, long, at, c_int, c_int]
    library.regrow_pack.argtypes = [at, long, at]
    library.regrow_keep.argtypes = [at, at, long, c_float, c_int]
    grid: list[Any] = [c_int, long, long, c_int]
    library.regrow_layer_norm.argtypes = [at, at, at, c_float, at, at, at, *grid]
    library.regrow_layer_norm_gradients.argtypes = [at, at, at, at, at, c_float, at, at, at, at, *grid]
    library.regrow_batch_norm.argtypes = [at, at, at, at, c_float, c_int, c_int, at, at, at, *grid]
    back = library.regrow_batch_norm_gradients
    back.argtypes = [at, at, at, at, at, at, at, c_float, c_int, at, at, at, at, *grid]
    library.regrow_swish.argtypes = [at, c_float, at, c_int, long, c_int]
    library.regrow_swish_gradient.argtypes = [at, at, c_float, at, c_int, long, c_int]
    library.regrow_max_pool.argtypes = library.regrow_max_pool_gradient.argtypes = [at, at, at, at, c_int, c_int]
    library.regrow_index.argtypes = [at, c_int, long, long, long, c_int, at, c_int]
    library.regrow_match.argtypes = [at, long, at, long, c_int, at, at, c_int]
    library.regrow_union.argtypes = [at, long, at, long, c_int, at, c_int]
    library.regrow_joined.argtypes = [at, at, long, at, at, long, c_int, at, at, c_int]
    library.regrow_absent.argtypes = [at, long, at, long, c_int, c_int, at, c_int]
    library.regrow_draws.argtypes = [at, long, long, at, c_int]
    library.regrow_ascend.argtypes = [at, long, c_int, long, c_int]
    library.regrow_reaching.argtypes = [at, long, c_float, at, c_int]
    library.regrow_only.argtypes = [at, at, long, c_int, at, c_int]
    library.regrow_carry.argtypes = [at, at, long, at, long, c_int, at, at, at, c_int]
    library.regrow_mark.argtypes = [at, at, long, c_int, c_int]
    library.regrow_list.argtypes = [at, long, c_int, at, c_int]
    library.regrow_distinct.argtypes = [at, long, c_int, long, at, c_int]
    library.regrow_select.argtypes = [at, long, long, at, c_int]
    library.regrow_floor.argtypes, library.regrow_floor.restype = [at, long, long, c_int], c_float
    library.regrow_above.argtypes = [at, long, at, long, c_int, c_float, at, at, c_int]
    found: list[Any] = [at, long, c_int, c_float, at, at, long, c_int]
    library.regrow_rivals.argtypes = [at, long, at, c_int, long, long, *found[:-1], at, c_int]
    library.regrow_filter_rivals.argtypes = [at, at, at, c_int, *found]
    for count in ("match", "union", "reaching", "distinct", "mark", "above", "rivals", "filter_rivals"):
        getattr(library, f"regrow_{count}").restype = long
    library.regrow_transpose.argtypes = [at, long, long, at, c_int, c_int]
