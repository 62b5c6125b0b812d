"""A figure's drawing, as SVG that takes its colours from the page: lines, bands, dots, bars, cells and their labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from regrow.report.scale import Scale, named

WIDTH, HEIGHT = 360.0, 246.0
LETTER = 5.9  # pixels of a letter of an 11 px label, about
GAP = 12.5  # between lines of labels

Point = tuple[float, float]
MARKS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f"M{x - 4:.1f} {y:.1f}a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    lambda x, y: f"M{x - 3.6:.1f} {y - 3.6:.1f}h7.2v7.2h-7.2z",
    lambda x, y: f"M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z",
    lambda x, y: f"M{x:.1f} {y - 4.8:.1f}l4.8 8.4h-9.6z",
    lambda x, y: f"M{x:.1f} {y + 4.8:.1f}l4.8-8.4h-9.6z",
)
"""Shapes of dots, so that colour is never alone: circle, square, diamond, triangles."""


class Plot:
    """Collects the marks of one drawing; `marks` counts those that stand for data.

    Args:
        right: room at the right for names of lines.
    """

    def __init__(self, right: float = 12.0, left: float = 46.0, height: float = HEIGHT) -> None:
        self.left, self.right, self.top, self.bottom = left, WIDTH - right, 26.0, height - 36.0
        self.height, self.marks = height, 0
        self._under: list[str] = []
        self._parts: list[str] = []
        self._taken: list[tuple[float, float, float, float]] = []

    def axes(
        self, x: Sequence[float], y: Sequence[float], log: tuple[bool, bool] = (False, False), tight: bool = False
    ) -> Plot:
        """Scales that hold these values, and no more where `tight`; call before drawing."""
        self.x = Scale.over(x, self.left, self.right, log[0], 0.0 if tight else 0.04)
        self.y = Scale.over(y, self.bottom, self.top, log[1], 0.0 if tight else 0.06)
        return self

    def x_axis(self, title: str, percent: bool = False, ticks: Sequence[float] | None = None, unit: str = "") -> Plot:
        places = list(self.x.ticks() if ticks is None else ticks)
        for tick, name in zip(places, named(places, percent, self.x.log), strict=True):
            at = self.x.at(tick)
            self._under.append(f'<path class="tick" d="M{at:.1f} {self.bottom:.1f}v4"/>')
            self._under.append(_text(at, self.bottom + 15, name + unit, "middle"))
        self._under.append(_text(self.right, self.bottom + 31, title, "end", "name"))
        return self

    def y_axis(self, title: str, percent: bool = False, ticks: Sequence[float] | None = None) -> Plot:
        places = list(self.y.ticks() if ticks is None else ticks)
        for tick, name in zip(places, named(places, percent, self.y.log), strict=True):
            at = self.y.at(tick)
            self._under.append(f'<path class="grid" d="M{self.left:.1f} {at:.1f}H{self.right:.1f}"/>')
            self._under.append(_text(self.left - 6, at + 3.8, name, "end"))
        self._under.append(_text(0, 9, title, look="name"))
        return self

    def line(self, points: Sequence[Point], look: str, title: str = "") -> None:
        """One polyline; `look` is a class, or several."""
        at = [(self.x.at(x), self.y.at(y)) for x, y in points]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in _thinned(at))
        self._add("path", f'class="line {look}" d="{path}"', title)
        self.marks += len(points)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], look: str) -> None:
        there = [(self.x.at(x), self.y.at(y)) for x, y in zip(xs, high, strict=True)]
        back = [(self.x.at(x), self.y.at(y)) for x, y in zip(xs, low, strict=True)][::-1]
        path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in [*_thinned(there), *_thinned(back)])
        self._under.append(f'<path class="band {look}" d="{path}z"/>')

    def dot(self, point: Point, look: str, mark: int = 0, half: float = 0.0, title: str = "") -> None:
        """A mark, with an interval of y of `half` to both sides."""
        x, y = self.x.at(point[0]), self.y.at(point[1])
        if half:
            high, low = self.y.at(point[1] + half), self.y.at(point[1] - half)
            self._under.append(f'<path class="whisker {look}" d="M{x:.1f} {high:.1f}V{low:.1f}"/>')
        self._add("path", f'class="dot {look}" d="{MARKS[mark % len(MARKS)](x, y)}"', title)
        self._taken.append((x - 5, y - 5, x + 5, y + 5))
        self.marks += 1

    def rect(
        self, x: float, y: float, width: float, height: float, look: str, title: str = "", style: str = ""
    ) -> None:
        """In pixels."""
        style = f' style="{style}"' if style else ""
        box = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        self._add("rect", f'class="{look}" {box}{style}', title)
        self.marks += 1

    def rule(self, path: str, look: str = "grid") -> None:
        """A line of the drawing that stands for no data, under everything: SVG path, in pixels."""
        self._under.append(f'<path class="{look}" d="{path}"/>')

    def mark(self, path: str, look: str, count: int = 0) -> None:
        """One SVG path over the rest, in pixels, which stands for `count` data."""
        self._parts.append(f'<path class="{look}" d="{path}"/>')
        self.marks += count

    def text(self, x: float, y: float, words: str, anchor: str = "start", look: str = "") -> None:
        """In pixels."""
        self._parts.append(_text(x, y, words, anchor, look))

    def label(self, point: Point, words: str) -> None:
        """A name beside a dot where there is room for it; else none, since the legend has it too."""
        x, y, width = self.x.at(point[0]), self.y.at(point[1]), LETTER * len(words)
        for left, low in ((x + 8, y + 4), (x - 8 - width, y + 4), (x - width / 2, y - 9), (x - width / 2, y + 17)):
            box = (left, low - 10, left + width, low + 2)
            inside = self.left <= box[0] and box[2] <= WIDTH and self.top - 8 <= box[1] and box[3] <= self.bottom
            if inside and not any(_cross(box, other) for other in self._taken):
                self._taken.append(box)
                self._parts.append(_text(left, low, words))
                return

    def end_labels(self, ends: Sequence[tuple[Point, str, str]]) -> None:
        """Names (point, words, look) at the right of lines, moved apart where lines meet."""
        rows = sorted((self.y.at(p[1]), self.x.at(p[0]), words, look) for p, words, look in ends)
        places, below = [row[0] for row in rows], self.bottom
        for i in range(1, len(places)):
            places[i] = max(places[i], places[i - 1] + GAP)
        for i in reversed(range(len(places))):
            places[i] = below = min(places[i], below)
            below -= GAP
        for at, (y, x, words, look) in zip(places, rows, strict=True):
            lead = f"M{x + 1:.1f} {y:.1f}L{self.right + 6:.1f} {at:.1f}h5"
            self._under.append(f'<path class="leader {look}" d="{lead}"/>')
            self._parts.append(_text(self.right + 14, at + 3.8, words))

    def svg(self, told: str) -> str:
        """The drawing; `told` is what a screen reader says of it."""
        inside = "".join([*self._under, *self._parts])
        return f'<svg viewBox="0 0 {WIDTH:g} {self.height:g}" role="img" aria-label="{escape(told)}">{inside}</svg>'

    def _add(self, kind: str, part: str, title: str) -> None:
        """A mark, which tells its title to a mouse that rests on it."""
        told = f"><title>{escape(title)}</title></{kind}>" if title else "/>"
        self._parts.append(f"<{kind} {part}{told}")


def _thinned(points: Sequence[Point]) -> Sequence[Point]:
    """No more points than the drawing has room for, the last one among them."""
    every = max(1, len(points) // 180)
    return points if every == 1 else [*points[:-1:every], points[-1]]


def _cross(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text(x: float, y: float, words: str, anchor: str = "start", look: str = "") -> str:
    look = f' class="{look}"' if look else ""
    anchor = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{anchor}{look}>{escape(words)}</text>'
