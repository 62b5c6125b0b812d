"""A whole EDST run, three tickets at 95 % sparsity on the sparse backend, against one dense run of reference length.

FreeTickets' lengths, 450 epochs to the dense run's 250, scaled down alike: a step is an epoch here, each run begins
with a new model and ends with its tickets. Updates fall as often per step as in ten real epochs for 250 (each 48
steps), so the two escapes and three tickets weigh more than in a real run.

python -m benchmarks.training.edst_wallclock [THREADS ...]
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from benchmarks.paired import Comparison, Task, paired, report
from benchmarks.training.masked_step import LOOPS
from benchmarks.training.sparse_step import CASES, best_dense
from torch import Tensor
from torch.nn.functional import cross_entropy

import regrow
from regrow import Ticket
from regrow.tickets.plan import PlanLR, capture_steps, edst, itop, total_steps

LIMIT, SPARSITY, INTERVAL = 0.4, 0.95, 48
REFERENCE, EXPLORE, REFINE, TICKETS = 250, 150, 100, 3
CASE = CASES["small"]


def run_of(x: Tensor, y: Tensor, loop: str, sparsity: float) -> Task:
    """A whole run: EDST, or dense at sparsity 0."""
    plan = edst(EXPLORE, REFINE, TICKETS) if sparsity else itop(REFERENCE)

    def run() -> list[Ticket]:
        torch.manual_seed(0)
        model = CASE.make()
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9, weight_decay=5e-4, **LOOPS[loop])
        sparsifier = None
        if sparsity:
            setup: dict[str, Any] = {"sparsity": sparsity, "plan": plan, "every": INTERVAL, "backend": "sparse"}
            sparsifier = regrow.sparsify(model, optimizer, method="rigl-itop", **setup)
        scheduler = PlanLR(optimizer, plan)
        found: list[Ticket] = []
        for step in range(1, total_steps(plan) + 1):
            cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            if sparsifier and step in capture_steps(plan):
                found.append(Ticket.of(model, sparsifier))
        return found

    return run


def compare() -> Comparison:
    x, y = CASE.batch()
    loop = best_dense(CASE, x, y)
    name = f"EDST M={TICKETS}, MLP 784-1024-1024-10, {SPARSITY:.0%}, a whole run ({loop})"
    return paired(name, run_of(x, y, "fused", SPARSITY), run_of(x, y, loop, 0.0), LIMIT, rounds=5)


if __name__ == "__main__":
    for threads in map(int, sys.argv[1:] or ["2", "1"]):
        torch.set_num_threads(threads)
        report("edst_wallclock", [compare()])
