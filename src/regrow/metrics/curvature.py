"""How sharp a minimum is: the top eigenvalue and the trace of the Hessian, over the weights that exist."""

from __future__ import annotations

import torch
from torch import Tensor

from regrow.core.errors import RegrowError
from regrow.core.rng import generator
from regrow.metrics.surface import Surface


def top_eigenvalue(surface: Surface, tolerance: float = 1e-3, seed: int = 0) -> float:
    """The largest eigenvalue of H, to a relative `tolerance`, by Lanczos iteration (ARPACK, through scipy).

    Raises:
        RegrowError: it does not converge, or there are fewer than three weights.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh  # type: ignore[import-untyped]

    n = len(surface.theta)
    if n < 3:
        raise RegrowError(f"{n} weights exist: the top eigenvalue is found from three on")

    def product(v: object) -> object:
        return surface.hessian_product(torch.as_tensor(v).flatten().to(surface.theta)).double().cpu().numpy()

    start = torch.randn(n, generator=generator("lanczos", seed), dtype=torch.float64).numpy()
    hessian = LinearOperator((n, n), matvec=product, dtype=start.dtype)
    try:
        return float(eigsh(hessian, k=1, which="LA", v0=start, tol=tolerance, return_eigenvectors=False)[0])
    except ArpackNoConvergence as error:
        raise RegrowError(
            f"the Hessian's top eigenvalue was not found ({error}); a larger `tolerance` may do"
        ) from error


def trace(surface: Surface, probes: int = 32, seed: int = 0) -> tuple[float, float]:
    """tr H = E[z^T H z], z of random signs (Hutchinson 1990): the mean over `probes` and its standard error."""
    if probes < 2:
        raise RegrowError(f"probes = {probes}: give at least 2, so that the error can be told")
    found = torch.tensor([_probe(surface, seed, number) for number in range(probes)], dtype=torch.float64)
    return float(found.mean()), float(found.std() / probes**0.5)


def _probe(surface: Surface, seed: int, number: int) -> float:
    signs = torch.randint(2, surface.theta.shape, generator=generator("hutchinson", seed, number))
    z: Tensor = (2 * signs - 1).to(surface.theta)
    return float(torch.dot(z, surface.hessian_product(z)))
