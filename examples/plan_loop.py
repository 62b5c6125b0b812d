"""FreeTickets in your own loop: three sparse networks from one run, that predict together."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import regrow
from regrow.tickets import Ensemble, Ticket
from regrow.tickets.plan import PlanLR, capture_steps, edst, total_steps

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
model = nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
batches = torch.arange(1400 - 1400 % 64).split(64)

plan = edst(explore_steps=600, refine_steps=400, tickets=3)  # large steps, then a refinement and an escape per ticket
sparsifier = regrow.sparsify(model, optimizer, method="rigl-itop", density=0.1, every=20, plan=plan)
scheduler = PlanLR(optimizer, plan)

tickets = []
for step in range(total_steps(plan)):
    batch = batches[step % len(batches)]
    cross_entropy(model(x[batch]), y[batch]).backward()
    optimizer.step()
    optimizer.zero_grad()
    scheduler.step()
    if sparsifier.step in capture_steps(plan):
        tickets.append(Ticket.of(model, sparsifier))

members = Ensemble(sparsifier.frozen_copy(), tickets).members(x[1400:])  # probabilities [3, 397, 10]
for name, p in [*zip(("ticket 0", "ticket 1", "ticket 2"), members, strict=True), ("together", members.mean(0))]:
    print(f"{name}: accuracy on the 397 images left out {(p.argmax(1) == y[1400:]).float().mean():.3f}")
