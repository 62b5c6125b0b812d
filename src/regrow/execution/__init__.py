"""Execution: how a topology is run. Methods never import this room."""

from regrow.core.faster import FASTER
from regrow.execution import algebra
from regrow.execution.base import Backend
from regrow.execution.masked import MaskedBackend
from regrow.execution.sparse import SparseBackend

BACKENDS: dict[str, type[Backend]] = {"masked": MaskedBackend, "sparse": SparseBackend}
FASTER.update(algebra.KERNELS)
