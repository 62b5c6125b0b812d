"""Passes: does a step take one backward pass, or several? Are gradients changed between them and the step?"""

from __future__ import annotations


class Passes:
    """The habits of a run. No pass can tell whether a micro-batch or clipping will follow it; the steps before can.

    Shared by all layers of a model: a layer may be reached by some micro-batches only.
    """

    def __init__(self) -> None:
        self._stepped = self._several = self._changed = False

    @property
    def single(self) -> bool:
        """Was there a step, and none that took several passes?"""
        return self._stepped and not self._several

    @property
    def untouched(self) -> bool:
        """Was there a step, and none whose gradients were not as they had arrived?"""
        return self._stepped and not self._changed

    def note(self, goes_on: bool) -> None:
        """A pass arrives; it adds to the gradient of one before, or begins."""
        self._several |= goes_on

    def change(self) -> None:
        """A gradient is no more what has arrived: clipped, unscaled, summed."""
        self._changed = True

    def step(self) -> None:
        """The optimizer has made a step."""
        self._stepped = True
