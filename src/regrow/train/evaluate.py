"""How good a model is on the data it is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, distributed, nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from regrow.train.data import Data

LossFn = Callable[[Tensor, Tensor], Tensor]


@torch.no_grad()
def evaluate(
    model: nn.Module, data: Data, split: str, loss: LossFn, fabric: Fabric
) -> tuple[float | None, float | None]:
    """Accuracy in [0, 1] and mean loss on `split`, over all ranks; (None, None) if the split is empty."""
    sums = torch.zeros(3, dtype=torch.float64)  # right answers, loss, samples
    for _, output, targets in _outputs(model, data, split, fabric):
        right = (output.argmax(-1) == targets).sum().item()
        sums += torch.tensor([right, loss(output, targets).item() * len(targets), len(targets)], dtype=torch.float64)
    right, total_loss, samples = sum_over_ranks(sums, fabric).tolist()
    return (right / samples, total_loss / samples) if samples else (None, None)


@torch.no_grad()
def answers(model: nn.Module, data: Data, split: str, fabric: Fabric) -> tuple[Tensor, Tensor] | None:
    """All outputs on `split` [N, ..] and all targets [N], on every rank's CPU; None if the split is empty."""
    mine = {at: (output.cpu(), targets.cpu()) for at, output, targets in _outputs(model, data, split, fabric)}
    parts = [mine] * fabric.world_size
    if fabric.world_size > 1:
        distributed.all_gather_object(parts, mine)
    batches = {at: batch for part in parts for at, batch in part.items()}
    if not batches:
        return None
    outputs, labels = zip(*(batches[at] for at in sorted(batches)), strict=True)
    return torch.cat(outputs), torch.cat(labels)


def _outputs(model: nn.Module, data: Data, split: str, fabric: Fabric) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Number, outputs and targets of this rank's share of the batches, in evaluation mode; the mode is put back.

    Rank 0's buffers (BatchNorm statistics) are the ones evaluated, as they are the ones kept.
    """
    _share_buffers(model)
    was_training = model.training
    model.eval()
    for at, (inputs, targets) in enumerate(data.evaluate(split)):
        if at % fabric.world_size == fabric.global_rank:
            with fabric.autocast():
                output = model(inputs.to(fabric.device))
            yield at, output.float(), targets.to(fabric.device)
    model.train(was_training)


def sum_over_ranks(values: Tensor, fabric: Fabric) -> Tensor:
    """The sum of a small CPU tensor over the ranks, on the CPU."""
    if fabric.world_size == 1:
        return values
    values = values.to(fabric.device)
    distributed.all_reduce(values)
    return values.cpu()


def _share_buffers(model: nn.Module) -> None:
    if distributed.is_available() and distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
