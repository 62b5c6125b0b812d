"""What the tests of the kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from regrow.execution import native


@pytest.fixture(params=native.available())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every instruction set that this machine has, and plain torch, one after another."""
    before = native.isa()
    native.use(request.param)
    yield request.param
    native.use(before)
