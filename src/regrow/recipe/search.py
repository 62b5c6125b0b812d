"""The `search` block of a suite: where to look for hyper-parameters, how often, and by what to judge."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_validator

from regrow.recipe.spec import Spec


class Range(Spec):
    """Numbers from low to high, both included; whole ones if both ends are."""

    low: int | float = Field(description="the smallest value")
    high: int | float = Field(description="the largest value")
    log: bool = Field(False, description="true: even on a logarithmic scale")
    step: int | float | None = Field(None, gt=0, description="distance of two values")

    @model_validator(mode="after")
    def _whole(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"has low {self.low:g} and high {self.high:g}: low should be below high")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("is logarithmic: give a low above 0, and no step")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int) and not isinstance(self.step, float)


Choices = Annotated[tuple[Any, ...], Strict(False), Field(min_length=1)]


class SearchSpec(Spec):
    """Trials of the recipe at points that Optuna chooses, judged on the validation split, never on the test split."""

    trials: int = Field(gt=0, description="how many points are tried, > 0")
    over: dict[str, Range | Choices] = Field(
        min_length=1, description="dotted key -> {low, high, log, step}, or a list of choices"
    )
    objective: Literal["val_accuracy", "val_loss"] = Field(
        "val_accuracy", description="of the validation split, mean over seeds; the test split decides nothing"
    )

    def ends(self) -> list[dict[str, Any]]:
        """Points that together hold every choice and both ends of every range: what to check before looking."""
        sides = {
            key: (where.low, where.high) if isinstance(where, Range) else where for key, where in self.over.items()
        }
        longest = max(map(len, sides.values()))
        return [{key: side[min(at, len(side) - 1)] for key, side in sides.items()} for at in range(longest)]
