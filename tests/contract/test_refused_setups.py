"""Law 9: a faulty setup is refused with one error that names the place, the value and the way out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn, optim
from torch.nn.utils import parametrizations, prune
from zoo import OPTIMIZERS, loss_at, plain, sparse, tiny_model, train

import regrow
from regrow import RegrowError
from regrow.core.schedules import Every, Linear
from regrow.core.site import Clock, Site
from regrow.methods import METHODS
from regrow.methods.static import Static


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def sgd(model: nn.Module) -> optim.Optimizer:
    return optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def refused(message: str, model: nn.Module | None = None, optimizer: Any = None, **setup: Any) -> None:
    """`sparsify` refuses this setup, and leaves model and optimizer as they were."""
    model = mlp() if model is None else model
    optimizer = sgd(model) if optimizer is None else optimizer
    before = {k: v.clone() for k, v in model.state_dict().items() if isinstance(v, torch.Tensor) and not is_lazy(v)}
    setup = {"density": 0.5, "total_steps": 1000, "every": 10} | setup
    if setup.get("method") == "static":
        del setup["every"]
    with pytest.raises(RegrowError, match=message) as caught:
        regrow.sparsify(model, optimizer, **setup)
    assert len(str(caught.value)) < 600
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    assert not getattr(optimizer, "_optimizer_step_post_hooks", {})
    assert not any(getattr(p, "_post_accumulate_grad_hooks", None) for p in model.parameters())


def is_lazy(value: torch.Tensor) -> bool:
    return bool(nn.parameter.is_lazy(value))


@pytest.mark.parametrize(
    ("message", "setup"),
    [
        (r"unknown method 'rigll'; did you mean 'rigl'\? Valid: .*rigl-itop", {"method": "rigll"}),
        (r"unknown method 'zzz'\. Valid", {"method": "zzz"}),
        (r"neither a name .* nor a Method", {"method": METHODS["rigl"]}),
        (r"method 'rigl' has no hyper-parameter 'grwo'; did you mean 'grow'\? Valid: drop", {"grwo": "random"}),
        (r"DropGrow has no hyper-parameter 'qqq'\. Valid", {"method": METHODS["set"](), "qqq": 1}),
        (r"density='0.1' is no number; it is a share of weights", {"density": "0.1"}),
        (r"every=2.5 is neither a whole number of steps nor an Every", {"every": 2.5}),
        (r"no parameter 'densty'; did you mean 'density'", {"densty": 0.1}),
        (r"unknown grow rule 'gradeint'; did you mean 'gradient'", {"grow": "gradeint"}),
        (r"unknown drop rule 'magnitud'", {"drop": "magnitud"}),
        (r"unknown redistribute rule 'moment'; did you mean 'momentum'", {"method": "snfs", "redistribute": "moment"}),
        (r"fraction 1\.5", {"fraction": 1.5}),
        (r"unknown topology 'erks'; did you mean 'erk'\? Valid: built, er, erk, grasp", {"topology": "erks"}),
        (r"unknown backend 'masksed'; did you mean 'masked'", {"backend": "masksed"}),
        (r"density=0\.5 and sparsity=0\.5 say the same thing", {"sparsity": 0.5}),
        (r"needs density=.* or sparsity=", {"density": None}),
        (r"density 0 is outside \(0, 1\]", {"density": 0.0}),
        (r"density 1\.5 is outside", {"density": 1.5}),
        (r"density -0\.1 is outside", {"density": -0.1}),
        (r"sparsity 1 is outside \[0, 1\)", {"density": None, "sparsity": 1.0}),
        (r"sparsity -0\.5 is outside", {"density": None, "sparsity": -0.5}),
        (r"density 0\.00\S* leaves layer '2.weight' \(4, 16\) with 0", {"density": 0.005, "topology": "uniform"}),
        (r"collapse: with 0 of 192 weights left, '0\.weight' has 0", {"density": 0.001, "topology": "magnitude"}),
        (r"needs total_steps", {"total_steps": 0}),
        (r"updates every 2000 steps, the run has 1000.*every=50", {"every": 2000}),
        (r"interval must be at least 1", {"every": 0}),
        (r"never updates", {"method": METHODS["static"](), "every": 5}),
        (r"'4\.\*' does nothing: it matches no parameter", {"include": ["4.*"]}),
        (r"'2\.wieght' .*did you mean '2\.weight'", {"exclude": ["2.wieght"]}),
        (r"'2\.bias' does nothing: '2\.bias' stays dense: bias or vector", {"include": ["0.weight", "2.bias"]}),
        (r"no sparse site.*0\.weight \(dense: excluded by name\)", {"exclude": ["*"]}),
        (r"overrides: '3\.weight' matches no sparse layer; did you mean", {"overrides": {"3.weight": 0.5}}),
        (r"density 0\.1 cannot be kept", {"density": 0.1, "overrides": {"0.weight": 0.9}}),
        (r"leave them out", {"topology": "magnitude", "overrides": {"0.weight": 0.9}}),
        (
            r"sites differ: 2\.weight \(none, 4x16\)",
            {"topology": regrow.Topology.full({"0.weight": (16, 8)}), "density": None},
        ),
        (r"sites differ: 0\.weight", {"topology": regrow.Topology.full({"0.weight": (4, 4), "2.weight": (4, 16)})}),
        (r"density 0\.5 contradicts", {"topology": regrow.Topology.full({"0.weight": (16, 8), "2.weight": (4, 16)})}),
    ],
)
def test_settings(message: str, setup: dict[str, Any]) -> None:
    refused(message, **setup)


@pytest.mark.parametrize("method", ["set", "snfs"])
def test_a_schedule_that_leaves_its_range(method: str) -> None:
    model, schedule = mlp(), Linear(1.5, 0.5)
    with pytest.raises(RegrowError, match=r"Linear\(start=1\.5, stop=0\.5\) gives 1\.25 at 25% .* in \[0, 1\]"):
        regrow.sparsify(model, sgd(model), method=method, density=0.5, total_steps=4, every=1, fraction=schedule)


def test_no_true_hyper_parameter_is_taken_for_a_slip() -> None:
    for name in ("drop", "grow", "fraction", "below", "rounding", "redistribute"):
        with pytest.raises(RegrowError, match="method 'static' has no hyper-parameter"):
            regrow.sparsify(mlp(), sgd(mlp()), method="static", density=0.5, **{name: 1})


@pytest.mark.parametrize("window", [(0,), (5, 0.5, 0.5), (5, -0.1), (5, 0.0, 1.1)])
def test_windows(window: tuple[Any, ...]) -> None:
    with pytest.raises(RegrowError, match="0 <= start < end <= 1"):
        Every(*window)


OUTSIDE_THE_LAW: dict[str, Callable[[Any], optim.Optimizer]] = {
    "Adafactor": lambda p: optim.Adafactor(p),
    "LBFGS": lambda p: optim.LBFGS(p),
    "SparseAdam": lambda p: optim.SparseAdam(list(p)),
    "Muon": lambda p: optim.Muon([q for q in p if q.dim() == 2]),
}


@pytest.mark.parametrize("kind", OUTSIDE_THE_LAW)
def test_optimizers_outside_the_law(kind: str) -> None:
    if not hasattr(optim, kind):
        pytest.skip(f"this torch has no {kind}")
    model = mlp()
    refused(f"{kind} .*element-wise optimizer", model, OUTSIDE_THE_LAW[kind](model.parameters()))


def test_muon_at_a_learning_rate_of_zero() -> None:
    """A warm-up that has not begun moves nothing; the trial must not be fooled."""
    if not hasattr(optim, "Muon"):
        pytest.skip("this torch has no Muon")
    model = mlp()
    refused("Muon moves weights", model, optim.Muon([p for p in model.parameters() if p.dim() == 2], lr=0.0))


@pytest.mark.parametrize(("kind", "serves"), [("sgd", False), ("rprop", False), ("sgd-momentum", True), ("adam", True)])
def test_a_method_that_reads_momentum_needs_an_optimizer_that_has_it(kind: str, serves: bool) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    if serves:
        sparse(model, optimizer, "set", drop="momentum")
        train(model, optimizer, range(1, 7))
    else:
        for backend in ("masked", "sparse", "auto"):
            setup = {"method": "set", "drop": "momentum", "backend": backend}
            refused(r"keeps no momentum.*use SGD\(momentum=.9\) or Adam", model, optimizer, **setup)


def test_what_is_no_optimizer() -> None:
    refused("Linear is not a torch.optim.Optimizer", optimizer=nn.Linear(2, 2))


def test_what_is_no_model() -> None:
    model = mlp()
    with pytest.raises(RegrowError, match=r"model: generator is not a torch\.nn\.Module"):
        regrow.sparsify(model.parameters(), sgd(model), density=0.5, total_steps=100, every=10)  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", ["masked", "auto"])
def test_weights_without_values(backend: str) -> None:
    with torch.device("meta"):
        model = mlp()
    optimizer = sgd(model)
    with pytest.raises(RegrowError, match="on the meta device and its weights have no values yet"):
        regrow.sparsify(model, optimizer, density=0.5, total_steps=100, every=10, backend=backend)


def test_twice_on_one_weight() -> None:
    model = mlp()
    optimizer = sgd(model)
    first = regrow.sparsify(model, optimizer, density=0.5, total_steps=100, every=10)
    with pytest.raises(RegrowError, match=r"'0\.weight' is sparse already; finalize\(\)"):
        regrow.sparsify(model, sgd(model), density=0.5, total_steps=100, every=10)
    first.finalize()
    regrow.sparsify(model, optimizer, density=0.5, total_steps=100, every=10)


def test_a_sparsifier_holds_one_model_at_a_time() -> None:
    model = mlp()
    sparsifier = regrow.sparsify(model, sgd(model), density=0.5, total_steps=100, every=10)
    other = mlp()
    with pytest.raises(RegrowError, match=r"holds a model already; finalize\(\)"):
        sparsifier.attach(other, sgd(other))


@pytest.mark.parametrize("backend", ["masked", "sparse", "auto"])
def test_what_a_method_refuses_in_its_own_words_lets_go_of_the_model(backend: str) -> None:
    @dataclass(frozen=True)
    class Impossible(Static):
        every: Every | None = Every(1)

        def births(self, sites: Mapping[str, Site], clock: Clock, fraction: float | None = None) -> Mapping[str, int]:
            raise RegrowError("no")

    model = mlp()
    with pytest.raises(RegrowError, match=r"^no$"):
        regrow.sparsify(model, sgd(model), method=Impossible(), density=0.5, total_steps=100, backend=backend)
    assert not any(getattr(p, "_post_accumulate_grad_hooks", None) for p in model.parameters())
    assert type(model[0]) is nn.Linear
    regrow.sparsify(model, sgd(model), density=0.5, total_steps=100, every=10, backend=backend)


def weight_normed(model: nn.Sequential) -> None:
    parametrizations.weight_norm(model[0])


def old_weight_normed(model: nn.Sequential) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(model[0])


def spectral_normed(model: nn.Sequential) -> None:
    nn.utils.spectral_norm(model[0])


def pruned(model: nn.Sequential) -> None:
    prune.l1_unstructured(model[0], "weight", 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (weight_normed, r"'0' is parametrized.*remove_parametrizations"),
        (old_weight_normed, r"'0' is parametrized"),
        (spectral_normed, r"'0' is parametrized"),
        (pruned, r"'0' is pruned.*prune\.remove.*Topology\.of\(model\.state_dict\(\)\)"),
    ],
)
def test_layers_whose_weight_is_made_from_others(change: Callable[[nn.Sequential], None], message: str) -> None:
    model = mlp()
    change(model)
    refused(message, model)
    refused(message, model, include=["0"])
    sparsifier = regrow.sparsify(model, sgd(model), density=0.5, total_steps=100, every=10, exclude=["0"])  # a way out
    assert list(sparsifier.topology) == ["2.weight"]


def test_the_way_out_of_pruning() -> None:
    model = mlp()
    prune.l1_unstructured(model[0], "weight", 0.5)
    prune.l1_unstructured(model[2], "weight", 0.5)
    for layer in (model[0], model[2]):
        prune.remove(layer, "weight")
    start = regrow.Topology.of(model.state_dict())
    assert regrow.sparsify(model, sgd(model), topology=start, total_steps=100, every=10).density == 0.5


@pytest.mark.parametrize("layer", [lambda: nn.LazyLinear(4), lambda: nn.LazyBatchNorm1d()])
def test_lazy_layers(layer: Callable[[], nn.Module]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = nn.Sequential(nn.Linear(8, 8), layer())
    refused(r"'1\.weight' is lazy.*run one forward pass", model, optimizer=sgd(model[0]))


def test_frozen_weights_asked_for_by_name() -> None:
    model = mlp()
    model[0].weight.requires_grad_(False)
    refused(r"include: '0' names '0\.weight', which cannot be sparse: frozen", model, include=["0"])
    sparsifier = regrow.sparsify(model, sgd(model), density=0.5, total_steps=100, every=10)  # otherwise it stays dense
    assert list(sparsifier.topology) == ["2.weight"]
    assert "frozen (requires_grad is False)" in sparsifier.summary()


def test_weights_that_no_optimizer_holds() -> None:
    model = mlp()
    refused(r"'0' names '0\.weight', which cannot be sparse: not in the optimizer", model, sgd(model[2]), include=["0"])
    refused(r"no sparse site.*not in the optimizer", model, optim.SGD([nn.Parameter(torch.ones(2, 2))], lr=0.1))


def test_embeddings_asked_for_by_name() -> None:
    model = nn.Sequential(nn.Embedding(10, 8), nn.Linear(8, 4))
    refused("cannot be sparse: embedding", model, include=["0"])


@pytest.mark.parametrize("model", [nn.Sequential(nn.BatchNorm1d(4)), nn.Embedding(3, 4), nn.Sequential(nn.ReLU())])
def test_models_without_a_sparse_site(model: nn.Module) -> None:
    parameters = list(model.parameters()) or [nn.Parameter(torch.ones(2))]
    refused(r"no sparse site: .*Parameters: (0\.weight|weight|none)", model, optim.SGD(parameters, lr=0.1))


def test_quantised_models() -> None:
    class Linear(nn.Module):
        weight = None
        __module__ = "torch.ao.nn.quantized.dynamic.modules.linear"

    refused(r"'1' is a quantised Linear; sparsify the float model", nn.Sequential(nn.Linear(8, 8), Linear()))


def test_quantised_weights() -> None:
    class Int4(torch.Tensor):
        pass

    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = nn.Parameter(torch.randn(8, 8).as_subclass(Int4))
    refused(r"'1\.weight' is a Int4 of torch\.float32: quantised weights", model)


def test_complex_weights() -> None:
    model = nn.Sequential(nn.Linear(8, 8, dtype=torch.complex64))
    refused("complex64", model)


class FullyShardedDataParallel(nn.Module):
    """Stands in for torch's, which needs a process group."""

    def __init__(self) -> None:
        super().__init__()
        self.module = mlp()


def test_fsdp1() -> None:
    refused(r"\(FSDP1\) flattens parameters.*use torch\.distributed\.fsdp\.fully_shard", FullyShardedDataParallel())


def test_weights_sharded_otherwise() -> None:
    class Columns:
        dim = 1

    model = mlp()
    model[0].weight.placements = (Columns(),)
    refused(r"'0\.weight' is a DTensor placed as .*masks follow rows", model)


@pytest.mark.parametrize("kind", ["sgd-momentum", "adam"])
def test_a_trained_model_is_warned_about_and_an_untrained_one_is_not(kind: str) -> None:
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    plain(model, optimizer, 1)
    with pytest.warns(UserWarning, match="topology='magnitude' keeps the largest") as caught:
        sparse(model, optimizer)
    assert caught[0].filename.endswith("zoo.py")  # the line that called sparsify
    model = tiny_model()
    model(torch.zeros(1, 1, 6, 6))  # statistics have moved: trained elsewhere
    with pytest.warns(UserWarning, match="looks trained"):
        sparse(model, OPTIMIZERS[kind](model.parameters()))
    for untrained in OPTIMIZERS:  # warnings are errors here
        model = tiny_model()
        sparse(model, OPTIMIZERS[untrained](model.parameters()))
    model = tiny_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    loss_at(model, 1).backward()
    optimizer.step()
    assert sparse(model, optimizer, topology="magnitude").density == pytest.approx(0.33, abs=1e-3)
