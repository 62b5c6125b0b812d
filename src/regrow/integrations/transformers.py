"""Hugging Face: `Trainer(..., callbacks=[Sparsify(method="rigl", density=0.1)])` trains a model sparsely."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from regrow.core.errors import RegrowError
from regrow.integrations.take_up import read, take_up, write
from regrow.sparsifier import Sparsifier


class Sparsify(TrainerCallback):
    """Trains sparsely from the start of `train` to its end. Each `checkpoint-*` folder gets `sparsifier.pt` besides.

    Args:
        setup: what `regrow.sparsify` takes; total_steps is the trainer's, if neither it nor a plan is given.

    Attributes:
        sparsifier: from `on_train_begin` on.

    Raises:
        RegrowError: at `train`: a checkpoint without `sparsifier.pt`, or one outside `output_dir` that
            `TrainingArguments(resume_from_checkpoint=...)` does not name.
    """

    sparsifier: Sparsifier

    def __init__(self, **setup: Any) -> None:
        self.setup = setup

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **parts: Any
    ) -> None:
        if args.load_best_model_at_end and self.setup.get("backend") == "sparse":
            raise RegrowError(
                "load_best_model_at_end puts weights of another topology into sparse layers; leave it out and load the "
                "best checkpoint yourself, or train with backend='masked'"
            )
        setup = self.setup if self.setup.get("plan") else {"total_steps": state.max_steps} | self.setup
        saved = read(_loaded(args, state)) if state.global_step else None
        self.sparsifier = take_up(parts["model"], parts["optimizer"], saved, **setup)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        if args.should_save:
            write(self.sparsifier, _folder(args, state.global_step))

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        if args.load_best_model_at_end and state.best_model_checkpoint:
            self.sparsifier.load_state_dict(read(Path(state.best_model_checkpoint)))  # whose weights are in the model
        self.sparsifier.finalize()


def _loaded(args: TrainingArguments, state: TrainerState) -> Path:
    named = args.resume_from_checkpoint
    return Path(named) if named and Path(named).is_dir() else _folder(args, state.global_step)


def _folder(args: TrainingArguments, step: int) -> Path:
    return Path(str(args.output_dir)) / f"checkpoint-{step}"
