"""What every plot is drawn on: a figure in one style, saved as a PNG or an SVG, with names that it can show.

The same input gives the same bytes with the same matplotlib, which is imported by the functions that draw, and drawn on
without pyplot, so that no display, thread or setting is involved.
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from headstart.features.files import write_bytes
from headstart.features.formatting import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120
MAX_LABEL = 24  # characters of a class name in a plot

TRAIN, VALIDATION, QUIET, INK = "#2a6fbb", "#e07b28", "#8a8f98", "#22262b"
GRID = "#e8eaed"
STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.edgecolor": "#c4c8ce",
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called '$5'
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": "white",
    "svg.fonttype": "none",  # text that can be read out, and set in the page's font
    "svg.hashsalt": "headstart",  # of the ids in it: no others at each start
}
FALLBACK_FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Microsoft YaHei",
    "Hiragino Sans",
    "Arial Unicode MS",
)


@contextlib.contextmanager
def canvas(width: float, height: float, path: str, tight: bool = True) -> Iterator[Figure]:
    """A figure in inches, in our style whatever the user's settings, saved when the block ends well.

    Args:
        width, height: of it.
        path: where it goes: an SVG where the name ends so, else a PNG.
        tight: cut it to what is drawn.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, STYLE | {"font.family": _fonts()}))
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        content, kind = io.BytesIO(), "svg" if path.endswith(".svg") else "png"
        cut: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.12}  # the layout cuts labels beside a square image
        nameless = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}  # a version would change the bytes
        figure.savefig(content, format=kind, metadata=nameless, **(cut if tight else {}))
    write_bytes(path, content.getvalue())


def label(name: str, longest: int = MAX_LABEL) -> str:
    """A name as a plot can show it: one line, cut in the middle when long, \\uXXXX for what no font here can draw."""
    short = printable(name)
    if len(short) > longest:
        short = f"{short[: longest // 2]}…{short[-(longest - longest // 2 - 1) :]}"
    drawable = _drawable()
    return "".join(c if ord(c) in drawable else c.encode("ascii", "backslashreplace").decode() for c in short)


@functools.lru_cache(maxsize=1)
def _fonts() -> list[str]:
    """matplotlib's own font, then those for other scripts that are installed."""
    from matplotlib.font_manager import fontManager

    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACK_FONTS if name in installed)]


@functools.lru_cache(maxsize=1)
def _drawable() -> frozenset[int]:
    """The code points that some font in `_fonts` has."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset().union(*(get_font(findfont(name)).get_charmap() for name in _fonts()))
