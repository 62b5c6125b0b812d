"""Passes: does a step take one backward pass, or several?"""

from __future__ import annotations


class Passes:
    """The habit of a run. No pass can tell whether a micro-batch will follow it; the steps before can.

    Shared by all layers of a model: a layer may be reached by some micro-batches only.
    """

    def __init__(self) -> None:
        self._stepped = self._several = False

    @property
    def single(self) -> bool:
        """Was there a step, and none that took several passes?"""
        return self._stepped and not self._several

    def note(self, goes_on: bool) -> None:
        """A pass arrives; it adds to the gradient of one before, or begins."""
        self._several |= goes_on

    def step(self) -> None:
        """The optimizer has made a step."""
        self._stepped = True
