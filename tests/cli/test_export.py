"""regrow export: what is written answers as the run's network does."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import regrow
from cli.conftest import Call
from regrow.core.errors import RegrowError
from regrow.lab import export as exporting
from regrow.lab.fold import without_norms
from regrow.lab.trained import Trained
from regrow.tickets import Ticket
from regrow.train.paths import RunFolder
from regrow.train.record import read_json

KINDS = ("state_dict", "safetensors", "ticket", "onnx", "torch.export")
TICKETS = (
    "plan={name: edst, explore: 1, refine: [1, 1], tickets: 2}",
    "method={name: rigl-itop, every: {interval: 4}}",
)


@pytest.fixture
def run(call: Call) -> Path:
    assert call("run", "smoke/digits", "--set", "epochs=1").exit_code == 0
    return next(Path("runs").glob("*/seed_0"))


@pytest.fixture
def answers(run: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs, and the network's answers."""
    x = torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        return x, Trained.of(run).model(x)


@pytest.mark.filterwarnings("ignore")  # of onnx and of torch's exporters
def test_every_format_answers_alike(call: Call, run: Path, answers: tuple[torch.Tensor, torch.Tensor]) -> None:
    import onnxruntime

    done = call("export", run, *(word for kind in KINDS for word in ("--to", kind)))
    assert done.exit_code == 0, done.output
    folder, (x, y) = run / "export", answers
    assert sorted(file.name for file in folder.iterdir()) == [
        "MODEL_CARD.md", "model.onnx", "model.pt", "model.pt2", "model.safetensors", "ticket.safetensors",
    ]  # fmt: skip
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    assert torch.allclose(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), y, atol=1e-5)
    assert torch.allclose(torch.export.load(folder / "model.pt2").module()(x), y, atol=1e-6)
    plain = Trained.of(run).model
    states = [torch.load(folder / "model.pt", weights_only=True), load_file(folder / "model.safetensors")]
    for state in states:
        plain.load_state_dict({key: torch.zeros_like(value) for key, value in state.items()})
        plain.load_state_dict(state)
        with torch.no_grad():
            assert torch.equal(plain(x), y)
    with torch.no_grad():
        assert torch.allclose(regrow.load(folder / "ticket.safetensors", plain)(x), y, atol=1e-5)
    zeros = Ticket.load(folder / "ticket.safetensors").topology
    assert all(bool((states[1][name][~mask] == 0).all()) for name, mask in zeros.items())


@pytest.mark.filterwarnings("ignore")  # of onnx and of torch's exporters
def test_folded_for_inference(call: Call) -> None:
    import onnxruntime

    changes = ("--set", "model={name: cnn, widths: [4, 8]}", "--set", "epochs=1")
    assert call("run", "smoke/digits", *changes).exit_code == 0
    run = next(Path("runs").glob("*/seed_0"))
    kinds = ("safetensors", "onnx", "torch.export")
    done = call("export", run, "--fold", *(word for kind in kinds for word in ("--to", kind)))
    assert done.exit_code == 0, done.output
    folder, plain, x = run / "export", Trained.of(run).model, torch.randn(3, 1, 8, 8)
    with torch.no_grad():
        y = plain(x)
    session = onnxruntime.InferenceSession(folder / "folded.onnx", providers=["CPUExecutionProvider"])
    assert torch.allclose(torch.from_numpy(session.run(None, {"input": x.numpy()})[0]), y, atol=1e-4)
    assert torch.allclose(torch.export.load(folder / "folded.pt2").module()(x), y, atol=1e-4)
    model = without_norms(plain)
    model.load_state_dict(load_file(folder / "folded.safetensors"))
    with torch.no_grad():
        assert torch.allclose(model(x), y, atol=1e-4)
    assert "regrow.lab.fold.without_norms(model)" in (folder / "MODEL_CARD.md").read_text()
    done = call("export", run, "--fold", "--to", "ticket")
    assert done.exit_code == 2
    assert "without --fold" in " ".join(done.stderr.split())


def test_the_card_has_the_runs_numbers(call: Call, run: Path) -> None:
    call("export", run)
    card = (run / "export" / "MODEL_CARD.md").read_text()
    result = read_json(RunFolder(run).result)
    for words in (
        f"| test accuracy | {100 * result['test_accuracy']:.2f} % |",
        f"| exploration rate R_s of the run | {result['exploration_rate']:.3f} |",
        "| weights in sparse layers | 947 of 4,736 (80.00 % sparse) |",
        "mlp, inputs 1x8x8, 10 classes",
        "rigl, masked backend",
        "`model.safetensors`",
        "build('mlp', (1, 8, 8), 10, hidden=[64])",
    ):
        assert words in card
    assert "nan" not in card.lower()


def test_a_ticket_has_its_own_card(call: Call) -> None:
    changes = [word for change in TICKETS for word in ("--set", change)]
    done = call("run", "smoke/digits", *changes, "--set", "epochs=null")
    assert done.exit_code == 0, done.output
    ticket = next(Path("runs").glob("*/seed_0/tickets/1.safetensors"))
    done = call("export", ticket, "--to", "safetensors", "--to", "ticket", "--out", "here")
    assert done.exit_code == 0, done.output
    state, kept = load_file("here/model.safetensors"), Ticket.load(ticket)
    assert all(torch.equal(state[key], value) for key, value in kept.state_dict().items())
    again = Ticket.load("here/ticket.safetensors")
    assert (again.topology, again.meta) == (kept.topology, kept.meta)
    assert "| test accuracy |" in Path("here/MODEL_CARD.md").read_text()


def test_an_unfinished_run_has_no_numbers(call: Call, run: Path) -> None:
    (run / "result.json").unlink()
    assert call("export", run).exit_code == 0
    assert "not finished: there are no test numbers" in (run / "export" / "MODEL_CARD.md").read_text()


def test_refusals(call: Call, run: Path) -> None:
    for words, message in (
        ((run, "--to", "onxx"), "unknown format 'onxx'; did you mean 'onnx'?"),
        ((run.parent.parent,), "holds no recipe.yaml"),
        (("none.safetensors",), "holds no recipe.yaml"),
    ):
        done = call("export", *words)
        assert done.exit_code == 2, done.output
        assert message in " ".join(done.stderr.split())


def test_onnx_says_what_it_needs(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = call("export", run, "--to", "onnx")
    assert done.exit_code == 2
    assert "ONNX needs onnxscript: pip install 'regrow[onnx]'" in " ".join(done.stderr.split())


def test_a_dense_run_has_no_ticket(call: Call) -> None:
    call("run", "smoke/dense", "--set", "epochs=1")
    done = call("export", next(Path("runs").glob("*/seed_0")), "--to", "ticket")
    assert done.exit_code == 2
    assert "is dense" in done.stderr


def test_answers_that_differ_are_not_kept(run: Path) -> None:
    trained = Trained.of(run)
    with pytest.raises(RegrowError, match=r"engine answers .* apart .* more than 0\.0001: the file is not written"):
        exporting._check(trained, "engine", lambda x: nn.Module.__call__(trained.model, x) * 0 + 1e9)
