"""Sparse training in your own loop: one new line."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import regrow

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(labels)
model = nn.Sequential(nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
epochs, batches = 20, [slice(i, i + 64) for i in range(0, 1400, 64)]

sparsifier = regrow.sparsify(  # the only new line
    model, optimizer, method="rigl-itop", density=0.05, total_steps=epochs * len(batches), every=20
)

for _ in range(epochs):
    for batch in batches:
        cross_entropy(model(x[batch]), y[batch]).backward()
        optimizer.step()  # masking, drop-and-grow and exploration tracking ride on this
        optimizer.zero_grad()

sparsifier.finalize()
print(sparsifier.summary())
print(f"accuracy on the 397 images left out: {(model(x[1400:]).argmax(1) == y[1400:]).float().mean():.3f}")
