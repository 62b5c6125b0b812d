"""What may come before `sparsify` and what after it: docs/order.md, a test for each cell."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from zoo import STEPS, sparse, train

from regrow.core.errors import RegrowError
from regrow.methods import METHODS
from regrow.sparsifier import Sparsifier
from regrow.tickets import Ticket

BACKENDS = ["masked", "sparse"]
DOCUMENT = Path(__file__).parents[2] / "docs" / "order.md"


class Net(nn.Module):
    """Linear layers of which two may be tied, and images that may lie channels last; computes in its weights' type."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3)
        self.first, self.second, self.last = nn.Linear(64, 24), nn.Linear(24, 24), nn.Linear(24, 24)
        self.head = nn.Linear(24, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.conv(inputs.to(self.head.bias.dtype)).relu().flatten(1)
        for layer in (self.first, self.second, self.last):
            hidden = layer(hidden).relu()
        return self.head(hidden).float()  # type: ignore[no-any-return]


@dataclass
class Case:
    """A run on one backend, with something done before or after `sparsify`."""

    backend: str

    def __post_init__(self) -> None:
        self.model: nn.Module = Net()
        self.whole: nn.Module = self.model  # with its wrappers
        self.average: AveragedModel | None = None

    def begin(self) -> None:
        self.optimizer: Optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05, momentum=0.9)

    def sparsify(self, method: str = "rigl-itop") -> None:
        self.sparsifier: Sparsifier = sparse(self.whole, self.optimizer, method, backend=self.backend, exclude=["conv"])

    def train(self, *steps: int) -> None:
        for step in steps or range(1, STEPS + 1):
            train(self.whole, self.optimizer, [step])
            if self.average is not None:
                self.average.update_parameters(self.model)

    def outside(self, model: nn.Module, name: str) -> Tensor:
        """A site's weights where nothing exists."""
        return model.state_dict()[name][~self.sparsifier.topology.mask(name)]

    def zeros_hold(self) -> bool:
        return all(bool((self.outside(self.model, name) == 0).all()) for name in self.sparsifier.topology)


def run(operation: Callable[[Case], None], when: str, backend: str) -> Case:
    """Optimizer, `sparsify`, training; the operation before `sparsify` or after it."""
    case = Case(backend)
    case.begin()
    if when == "before":
        operation(case)
    case.sparsify()
    if when == "after":
        operation(case)
    case.train()
    return case


def to_double(case: Case) -> None:
    case.model.double()


def compiled(case: Case) -> None:
    torch._dynamo.reset()
    case.whole = torch.compile(case.model, backend="aot_eager")  # type: ignore[assignment]


def distributed(case: Case) -> None:
    case.whole = nn.parallel.DistributedDataParallel(case.model)


def scheduled(case: Case) -> None:
    scheduler = torch.optim.lr_scheduler.ConstantLR(case.optimizer, factor=1.0)
    case.optimizer.register_step_post_hook(lambda *_: scheduler.step())


def channels_last(case: Case) -> None:
    case.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def averaged(case: Case) -> None:
    case.average = AveragedModel(case.model, multi_avg_fn=get_ema_multi_avg_fn(0.9))


def tied(case: Case) -> None:
    case.model.last.weight = case.model.second.weight  # type: ignore[union-attr]


def frozen(case: Case) -> None:
    case.model.second.requires_grad_(False)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def plain() -> dict[str, Case]:
    """Runs to which nothing was done."""
    return {backend: run(lambda case: None, "before", backend) for backend in BACKENDS}


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of one."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("operation", [compiled, scheduled, channels_last])
@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
def test_it_changes_nothing(operation: Callable[[Case], None], when: str, backend: str, plain: dict[str, Case]) -> None:
    case = run(operation, when, backend)
    assert case.sparsifier.topology == plain[backend].sparsifier.topology
    assert case.zeros_hold()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.usefixtures("group")
def test_distributed(when: str, plain: dict[str, Case]) -> None:
    case = run(distributed, when, "masked")
    assert case.sparsifier.topology == plain["masked"].sparsifier.topology
    assert case.zeros_hold()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_to(when: str, backend: str) -> None:
    case = run(to_double, when, backend)
    assert case.zeros_hold()
    assert {parameter.dtype for parameter in case.model.parameters()} == {torch.float64}
    assert case.sparsifier.exploration_rate > case.sparsifier.density


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_average_made_before_stays_dense(backend: str) -> None:
    if backend == "sparse":
        with pytest.raises(RuntimeError, match="size"):
            run(averaged, "before", backend)
        return
    case = run(averaged, "before", backend)
    assert case.average is not None
    assert bool((case.outside(case.average.module, "first.weight") != 0).any())


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_average_made_after_holds_what_was_ever_there(backend: str) -> None:
    if backend == "sparse":
        with pytest.raises(RuntimeError, match="size"):
            run(averaged, "after", backend)
        return
    case = run(averaged, "after", backend)
    assert case.average is not None
    explored = case.sparsifier.explored
    for name in explored:
        held = case.average.module.state_dict()[name] != 0
        assert not bool((held & ~explored.mask(name)).any())


@pytest.mark.parametrize("backend", BACKENDS)
def test_tying_before_makes_one_site(backend: str) -> None:
    case = Case(backend)
    tied(case)
    case.begin()
    if backend == "sparse":
        with pytest.raises(RegrowError, match=r"second\.weight \(shared by 2 layers\)"):
            case.sparsify()
        return
    case.sparsify()
    case.train()
    assert [name for name in case.sparsifier.topology if name in ("second.weight", "last.weight")] == ["second.weight"]
    assert case.zeros_hold()


@pytest.mark.parametrize("backend", BACKENDS)
def test_tying_after_is_refused_by_the_ticket(backend: str) -> None:
    case = run(tied, "after", backend)
    with pytest.raises(RegrowError, match=r"'second\.weight'.*'last\.weight'.*tie weights before sparsify"):
        Ticket.of(case.model, case.sparsifier)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frozen_before_stays_dense(backend: str) -> None:
    case = run(frozen, "before", backend)
    assert "second.weight" not in case.sparsifier.topology
    assert bool((case.model.state_dict()["second.weight"] != 0).all())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("method", [method for method in METHODS if method != "static"])
def test_frozen_after_stays_as_it_is(method: str, backend: str) -> None:
    case = Case(backend)
    case.begin()
    case.sparsify(method)
    case.train(*range(1, 5))
    mask, weight = case.sparsifier.topology.mask("second.weight"), case.model.state_dict()["second.weight"].clone()
    frozen(case)
    before = case.sparsifier.topology
    case.train(*range(5, 13))
    assert case.sparsifier.topology != before or method == "set-threshold"
    assert torch.equal(case.sparsifier.topology.mask("second.weight"), mask)
    assert torch.equal(case.model.state_dict()["second.weight"], weight)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_made_before_is_another_model(backend: str, plain: dict[str, Case]) -> None:
    case = run(lambda case: setattr(case, "other", copy.deepcopy(case.model)), "before", backend)
    other = Case(backend)
    other.model = other.whole = case.other  # type: ignore[attr-defined]
    other.begin()
    other.sparsify()
    other.train()
    assert case.sparsifier.topology == other.sparsifier.topology == plain[backend].sparsifier.topology


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_copy_made_after_is_plain(backend: str) -> None:
    case = run(lambda case: None, "after", backend)
    copied, before = copy.deepcopy(case.model), {k: v.clone() for k, v in case.model.state_dict().items()}
    assert type(copied.first) is nn.Linear
    case.train(13)
    assert all(torch.equal(value, before[key]) for key, value in copied.state_dict().items())


def test_the_document_has_these_rows() -> None:
    rows = re.findall(r"^\| (?!operation|-)(.+?) \| (.+?) \| (.+?) \|$", DOCUMENT.read_text(), re.M)
    works = {name for name, before, after in rows if before.startswith("works") and after.startswith("works")}
    assert len(rows) == 9
    assert len(works) == 6
