"""The algebra of positions on the kernels: to the bit what core does in plain torch, for any number of threads."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from regrow.core import bits, positions
from regrow.core.faster import FASTER
from regrow.core.patterns import rivals
from regrow.core.select import highest, select
from regrow.execution import algebra, native

pytestmark = pytest.mark.skipif(native.available() == ("reference",), reason="no kernels in this build")

SETS = {  # name -> places, how many in one set, in the other
    "few": (10, 3, 4),
    "one": (1, 1, 1),
    "one against none": (2, 0, 1),
    "none": (5, 0, 0),
    "empty first": (10, 0, 4),
    "empty second": (10, 4, 0),
    "full": (50_000, 50_000, 20_000),
    "far apart": (2**40, 30_000, 20_000),
    "crowded": (100_000, 40_000, 70_000),
    "sparse": (1_000_000, 50_000, 40_000),
}


@pytest.fixture(params=[1, 2, 3], autouse=True)
def threads(request: pytest.FixtureRequest) -> None:
    torch.set_num_threads(request.param)


@pytest.fixture(params=SETS.values(), ids=SETS)
def pair(request: pytest.FixtureRequest) -> tuple[int, Tensor, Tensor]:
    places, *sizes = request.param
    kind = torch.int64 if places > 2**31 else torch.int32
    g = Generator().manual_seed(0)
    one, other = (drawn(places, n, g).to(kind) for n in sizes)
    return places, one, other


def drawn(places: int, n: int, g: Generator) -> Tensor:
    if places > 2**31:
        return torch.randint(places, (2 * n,), generator=g).unique()[:n]
    return torch.randperm(places, generator=g)[:n].sort().values


def plainly(function: object, *args: object) -> object:
    return function.__wrapped__(*args)  # type: ignore[attr-defined]


def test_every_kernel_stands_for_a_function() -> None:
    assert FASTER == algebra.KERNELS
    marked = {name for module in (positions, bits) for name, f in vars(module).items() if hasattr(f, "__wrapped__")}
    assert marked - {"may_be_faster"} | {"highest", "rivals"} == FASTER.keys()


@pytest.mark.parametrize("function", [positions.contains, positions.union])
def test_two_sets(pair: tuple[int, Tensor, Tensor], function: object) -> None:
    _, one, other = pair
    for a, b in ((one, other), (other, one), (one, one)):
        ours, plain = algebra.KERNELS[function.__name__](a, b), plainly(function, a, b)  # type: ignore[attr-defined]
        assert torch.equal(ours, plain)
        assert ours.dtype == plain.dtype


def test_sets_side_by_side(pair: tuple[int, Tensor, Tensor]) -> None:
    _, one, other = pair
    for a, b in ((one, other), (other, one), (one, one), (one, one[1:])):
        ours, plain = algebra.match(a, b), plainly(positions.match, a, b)
        assert torch.equal(ours.stay, plain.stay)
        assert torch.equal(ours.known, plain.known)
        assert ours.both == plain.both == positions.common(a, b)


def test_absentees(pair: tuple[int, Tensor, Tensor]) -> None:
    places, one, other = pair
    g = Generator().manual_seed(1)
    ranks = drawn(max(places - one.numel(), 1), min(other.numel(), places - one.numel()), g)
    assert torch.equal(algebra.absent(one, ranks), plainly(positions.absent, one, ranks))


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_carrying_values(pair: tuple[int, Tensor, Tensor], kind: torch.dtype) -> None:
    _, one, other = pair
    values, match = (torch.randn(one.numel()) * 9).to(kind), positions.match(one, other)
    plain, into = plainly(positions.carry, values, match, 3.0), torch.empty(other.numel(), dtype=kind)
    held = dict(zip(one.tolist(), values.tolist(), strict=True))
    assert torch.equal(plain, torch.tensor([held.get(at, 3.0) for at in other.tolist()], dtype=kind))
    assert torch.equal(positions.carry(values, match, 3.0), plain)
    assert positions.carry(values, match, 3.0, into) is into
    assert torch.equal(into, plain)
    assert torch.equal(plainly(positions.carry, values, match, 3.0, into), plain)
    kept = positions.only(values, match.stay, match.both)
    assert torch.equal(kept, plainly(positions.only, values, match.stay, match.both))


@pytest.mark.parametrize("bound", [0.0, 0.5, torch.inf, torch.nan])
def test_what_reaches_a_bound(bound: float) -> None:
    values = torch.randn(40_001)
    values[:4] = torch.tensor([torch.nan, torch.inf, -0.5, 0.5])
    flags, n = algebra.reaching(values, bound)
    plain = plainly(positions.reaching, values, bound)
    assert torch.equal(flags, plain[0])  # type: ignore[index]
    assert n == plain[1] == int(flags.count_nonzero())  # type: ignore[index]


def test_joined_with_what_belongs_to_them(pair: tuple[int, Tensor, Tensor]) -> None:
    _, one, other = pair
    other = positions.difference(other, one)
    for a, b in ((one, other), (other, one), (one, other[:5]), (one, other[:0])):
        x, y = torch.randn(a.numel()), torch.randn(b.numel())
        for ours, plain in zip(algebra.joined(a, x, b, y), plainly(positions.joined, a, x, b, y), strict=True):  # type: ignore[call-overload]
            assert torch.equal(ours, plain)


def test_carrying_in_place() -> None:
    g = Generator().manual_seed(3)
    one, other = (drawn(100_000, 40_000, g).int() for _ in range(2))
    values, match = torch.randn(40_000), positions.match(one, other)
    plain = plainly(positions.carry, values, match, 3.0)
    for carry in (positions.carry, positions.carry.__wrapped__):  # type: ignore[attr-defined]
        copy = values.clone()
        assert carry(copy, match, 3.0, copy) is copy
        assert torch.equal(copy, plain)


def test_a_few_among_many(pair: tuple[int, Tensor, Tensor]) -> None:
    _, one, other = pair
    ends = torch.cat([one[:1], one[-1:]]).unique()
    for some in (other[::40].contiguous(), one[::50].contiguous(), ends, other[:1], other[-1:], one[:0]):
        assert torch.equal(algebra.union(one, some), plainly(positions.union, one, some))


def test_order() -> None:
    for kind in (torch.int32, torch.int64):
        at = torch.arange(0, 60_000, 2, dtype=kind)
        broken = [at.clone() for _ in range(3)]
        broken[0][-1], broken[1][20_000], broken[2][0] = 59_996, 39_998, -1
        for positions_, numel, right in (
            (at, 59_999, True),
            (at, 59_998, False),
            *((b, 60_000, False) for b in broken),
        ):
            assert algebra.ascend(positions_, numel) is right
            assert plainly(positions.ascend, positions_, numel) is right


@pytest.mark.parametrize("places", [1, 2, 1000, 2**24, 2**24 + 1, 2**28 - 1, 2**28])
def test_draws_are_those_of_torch(places: int) -> None:
    one, other = (Generator().manual_seed(places) for _ in range(2))
    for n in (5000, 1, 4096, 40_001):
        ours, plain = positions.draws(places, n, one), plainly(positions.draws, places, n, other)
        assert torch.equal(ours, plain)
        assert ours.dtype == plain.dtype
        assert torch.equal(one.get_state(), other.get_state())
    assert (algebra.draws(places, 5000, one) is NotImplemented) == (places == 2**28)


@pytest.mark.parametrize("places", [1, 2, 100, 4096, 4097, 10**6, 2**24, 2**24 + 1, 2**40, 2**63 - 1])
@pytest.mark.parametrize("n", [0, 1, 2, 1000, 40_000])
def test_distinct_draws(places: int, n: int) -> None:
    drawn = torch.randint(places, (n,), generator=Generator().manual_seed(n))
    assert torch.equal(positions.distinct(drawn.clone()), plainly(positions.distinct, drawn))


def test_bits(pair: tuple[int, Tensor, Tensor]) -> None:
    places, one, other = pair
    if places > 2**31:
        pytest.skip("too large a table")
    tables = bits.none(places), bits.none(places)
    for at in (one, other, other[::3].contiguous(), one):
        ours, plain = algebra.mark(tables[0], at), plainly(bits.mark, tables[1], at)
        assert ours == plain
        assert torch.equal(*tables)
    n = positions.union(one, other).numel()
    for kind in (torch.int32, torch.int64):
        ours = algebra.listed(tables[0], n, kind)
        assert torch.equal(ours, plainly(bits.listed, tables[1], n, kind))
        assert ours.dtype == kind
        assert torch.equal(ours, positions.union(one, other).to(kind))


def scores(n: int) -> dict[str, Tensor]:
    g = Generator().manual_seed(n)
    normal, chance = torch.randn(n, generator=g), torch.rand(n, generator=g)
    return {
        "normal": normal,
        "tiny and huge": normal * 10 ** (80 * (chance - 0.5)),
        "few values": (3 * normal).round(),
        "zeros of both signs": torch.zeros(n).copysign(normal),
        "with NaN": normal.masked_fill(chance < 0.4, torch.nan),
        "with infinities": normal.masked_fill(chance < 0.2, torch.inf).masked_fill(chance > 0.7, -torch.inf),
        "all NaN": torch.full((n,), torch.nan),
    }


@pytest.mark.parametrize("n", [2, 5, 1000, 50_001, 400_000])
def test_selection(n: int) -> None:
    for name, score in scores(n).items():
        for chosen in {1, n // 3 or 1, n // 2, n - 1}:
            assert torch.equal(algebra.highest(score, chosen), plainly(highest, score, chosen)), name


@pytest.mark.parametrize("n", [5, 1000, 50_001])
@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
@pytest.mark.parametrize("active", [0.0, 0.2, 1.0])
def test_rivals(n: int, kind: torch.dtype, active: float) -> None:
    """The best k of those returned are the best k of all."""
    at = drawn(n, round(active * n), Generator().manual_seed(2)).to(kind)
    for name, signal in scores(n).items():
        for k in {1, n // 10 + 1, n}:
            for above in (-torch.inf, 0.0, 0.5, torch.inf):
                k = min(k, n - at.numel())
                ours, plain = (best(*f(signal, at, k, above), k) for f in (rivals, rivals.__wrapped__))  # type: ignore[attr-defined]
                assert all(map(torch.equal, ours, plain)), (name, k, above)


def best(position: Tensor, score: Tensor, k: int) -> tuple[Tensor, Tensor]:
    chosen = select(score, min(k, score.numel()))
    return position[chosen], score[chosen]


def test_what_the_kernels_do_not_take_is_done_plainly() -> None:
    one, other = torch.arange(8)[::2], torch.arange(6)
    assert algebra.union(one, other) is NotImplemented
    assert positions.union(one, other).tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert algebra.highest(torch.rand(5).double(), 2) is NotImplemented
    before = native.isa()
    native.use("reference")
    try:
        assert algebra.union(other, other) is NotImplemented
    finally:
        native.use(before)
