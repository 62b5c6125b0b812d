"""The tickets of a run: taken where its plan says, and judged at its end, alone, together and averaged."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from regrow.core.errors import RegrowError
from regrow.core.topology import Topology
from regrow.metrics.calibration import accuracy, ece, nll
from regrow.tickets import Ticket, load
from regrow.tickets.basin import GreedySoup, Guarded
from regrow.tickets.plan import capture_steps, ticket_at, total_steps
from regrow.tickets.superpose import Superposition, reestimate, superpose
from regrow.train.evaluate import answers
from regrow.train.judged import Judged, between_tickets

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from regrow.train.job import Job
    from regrow.train.paths import RunFolder
    from regrow.train.record import Record

NO_SITES = Topology({}, {})  # of a dense ticket


class Harvest:
    """Takes a job's tickets into its folder. `best` is all it remembers, for the checkpoint."""

    def __init__(self, job: Job, folder: RunFolder, fabric: Fabric) -> None:
        check_plan(job)
        self.job, self.folder, self.fabric = job, folder, fabric
        self.best: float | None = None  # validation accuracy of the ticket being sought
        self._due = capture_steps(job.plan)

    def after(self, step: int, epoch: int, val_accuracy: float | None) -> None:
        """After a step, and the evaluation if it ended an epoch: take a ticket if it is time, or if it is the best yet.

        Before the checkpoint of the same step: a run that is killed between the two takes the same ticket again.
        """
        number = ticket_at(self.job.plan, step)
        if number is None:
            return
        wanted = due = step in self._due
        if self.job.selection == "best":
            better = val_accuracy is not None and (self.best is None or val_accuracy > self.best)
            wanted = better or (due and self.best is None)
        if wanted:
            self._take(number, step, epoch, val_accuracy)
            self.best = val_accuracy
        if due:
            self.best = None

    def judged(self, judged: Judged) -> Record:
        """What the tickets are worth on the test split; nothing if the plan takes none. `judged` is told more."""
        if not self._due:
            return {}
        self.fabric.barrier()
        paths = [self.folder.ticket(number) for number in range(len(self._due))]
        mean, labels, rows = torch.zeros(()), torch.zeros(()), []
        for path in paths:  # one at a time: the memory of two, whatever their number
            ticket = Ticket.load(path)
            outputs, labels = self._answers(ticket)
            judged.ticket(ticket.topology, outputs.softmax(-1), labels)
            mean = mean + outputs.softmax(-1) / len(paths)
            taken = {name: int(ticket.meta[name]) for name in ("step", "epoch")}
            rows.append({"file": path.name, **taken, **_row(ticket, outputs, labels)})
        if len(paths) > 1:
            judged.predictions("ensemble", mean, labels)
        ratio = (self.job.flops or {}).get("inference_ratio")
        ensemble = {
            "members": len(paths),
            **_worth(mean, labels),
            "inference_ratio": ratio and ratio * len(paths),
        }
        return {"selection": self.job.selection, "tickets": rows, "ensemble": ensemble, **self._superposed(judged)}

    def _superposed(self, judged: Judged) -> Record:
        """The tickets' average, written beside them; the live model is not touched."""
        job = self.job
        into = self._average()
        if not isinstance(into, Guarded) and "val" in job.data.splits:
            judged.paths = between_tickets(self.folder, len(self._due), self._loss)
        if into is None:
            return {}
        tickets = (Ticket.load(self.folder.ticket(number)) for number in range(len(self._due)))
        try:
            average = superpose(tickets, into)
        except RegrowError as error:
            if not (isinstance(into, Guarded) and into.refused):
                raise
            return {"superposed": None, "refused": str(error)}
        finally:
            if isinstance(into, Guarded):
                judged.paths = into.barriers
        if job.reestimate:
            batches = job.data.train(job.batch_size, job.seed, job.epochs)
            average = reestimate(average, self._plain().to(self.fabric.device), batches, self.fabric.device)
        if self.fabric.is_global_zero:
            average.save(self.folder.superposed)
        outputs, labels = self._answers(average)
        judged.predictions("superposed", outputs.softmax(-1), labels)
        return {
            "superposed": {
                "file": self.folder.superposed.name,
                "by": average.meta["superposed"],
                "tickets": int(average.meta["tickets"]),
                **_row(average, outputs, labels),
            }
        }

    def _average(self) -> Superposition | None:
        return self.job.superposition and self.job.superposition(self._loss)

    def _take(self, number: int, step: int, epoch: int, val_accuracy: float | None) -> None:
        if self.fabric.is_global_zero:
            on = self.job.sparsifier or NO_SITES
            told = {"seed": self.job.seed, "step": step, "epoch": epoch, "val_accuracy": val_accuracy}
            Ticket.of(self.job.model, on, **told, selection=self.job.selection).save(self.folder.ticket(number))

    def _plain(self) -> nn.Module:
        """The live model's architecture, as a copy on the CPU."""
        return copy.deepcopy(self.job.model).cpu()

    def _loss(self, ticket: Ticket) -> float:
        return self.job.loss(*self._answers(ticket, "val")).item()

    def _answers(self, ticket: Ticket, split: str = "test") -> tuple[Tensor, Tensor]:
        sparse = self.job.sparsifier is not None and self.job.sparsifier.backend_name == "sparse"
        model = load(ticket, self._plain(), "sparse" if sparse else "masked").to(self.fabric.device)
        found = answers(model, self.job.data, split, self.fabric)
        if found is None:
            raise RegrowError(f"tickets are judged on the {split} split, which is empty")
        return found


def check_plan(job: Job) -> None:
    """Raises:
    RegrowError: the run has another length than its plan, nothing in it follows the plan's topologies, or its tickets
        are chosen on a validation split that is not there.
    """
    looks = job.superposition and isinstance(job.superposition(lambda ticket: 0.0), Guarded | GreedySoup)
    if (job.selection == "best" or looks) and "val" not in job.data.splits:
        raise RegrowError(
            "the best tickets, the barriers between tickets and greedy averages are found on a validation split, "
            "and there is none; hold one out, or take the last tickets, unguarded and all"
        )
    if job.plan and total_steps(job.plan) != job.total_steps:
        raise RegrowError(
            f"the plan has {total_steps(job.plan)} steps, the run {job.total_steps} ({job.epochs} epochs of "
            f"{job.steps_per_epoch}); make them equal"
        )
    if job.sparsifier and job.sparsifier.plan != job.plan:
        raise RegrowError("the sparsifier follows another plan than the run; give both the same")
    if not job.sparsifier and any(phase.explore for phase in job.plan):
        raise RegrowError("the plan explores, but a dense network has nowhere to go; give a method, or a plan like fge")


def quality(found: tuple[Tensor, Tensor] | None) -> Record:
    """Accuracy in [0, 1], NLL in nats and ECE of 15 bins, from `answers`; None where there are none."""
    if found is None or found[0].dim() != 2:
        right = None if found is None else (found[0].argmax(-1) == found[1]).double().mean().item()
        return {"test_accuracy": right, "test_nll": None, "test_ece": None}
    return _worth(found[0].softmax(-1), found[1])


def _row(ticket: Ticket, outputs: Tensor, labels: Tensor) -> Record:
    topology = ticket.topology
    return {**_worth(outputs.softmax(-1), labels), "nnz": topology.nnz, "density": topology.density}


def _worth(p: Tensor, labels: Tensor) -> Record:
    return {"test_accuracy": accuracy(p, labels), "test_nll": nll(p, labels), "test_ece": ece(p, labels)}
