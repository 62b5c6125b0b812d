"""Execution: how a topology is run. Methods never import this room."""

from regrow.core.faster import FASTER
from regrow.execution import algebra
from regrow.execution.auto import AutoBackend
from regrow.execution.base import Backend
from regrow.execution.masked import MaskedBackend
from regrow.execution.sparse import SparseBackend

BACKENDS: dict[str, type[Backend]] = {"masked": MaskedBackend, "sparse": SparseBackend}
TRAINING: dict[str, type[Backend]] = BACKENDS | {"auto": AutoBackend}
"""And what must train to know what it is."""

FASTER.update(algebra.KERNELS)
