"""Section: where the network looks, on images that it got wrong and right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup
from PIL import Image

from headstart.features.errors import UserError
from headstart.features.images.resize import resizer
from headstart.training.pages.album import Album
from headstart.training.pages.elements import html, note, percent, section
from headstart.training.pages.gallery import figure, gallery
from headstart.training.predicting.pictures import Pictures
from headstart.training.reporting.evaluated import Evaluated
from headstart.training.reporting.grad_cam import grad_cam

if TYPE_CHECKING:
    import keras

EACH = 6  # images of either kind
SIDE, STRENGTH = 144, 0.55  # pixels; how much of a picture the colours may cover
TITLE = "Where the network looks"


def attention(evaluated: Evaluated, pictures: Pictures, model: keras.Model, album: Album) -> Markup:
    """Pairs of pictures: what the network saw, and what of it spoke for its answer."""
    run, kinds = evaluated.run, {"Wrong": evaluated.worst(EACH), "Right": evaluated.right(EACH)}
    images = pictures.pixels([row for rows in kinds.values() for row in rows], run.spec)
    if not images:
        return section("attention", TITLE, [note("Not shown: {}.", pictures.why_not or "the images are gone or have changed")])
    resize = resizer(run.spec)
    seen = np.stack([resize(image) for image in images.values()]).astype(np.float32)  # [N, H, W, 3]
    try:
        maps = grad_cam(model, run.tap, seen, [int(evaluated.predicted[row]) for row in images])
    except UserError as error:
        return section("attention", TITLE, [note("Not shown: {}.", str(error))])
    shown = {row: (pixels, heated(pixels, heat)) for row, pixels, heat in zip(images, seen, maps)}
    lines = [
        note(
            "The brighter, the more a place spoke for the answer that was given (Grad-CAM, on a map of {} by {} cells). It is "
            "coarse: a bright background is a reason to look closer, a bright object no proof.",
            *maps.shape[1:],
        )
    ]
    for kind, rows in kinds.items():
        pairs = [_pair(evaluated, row, *shown[row], album) for row in rows if row in shown]
        if pairs:
            lines.append(html("<h3>{}</h3>{}", kind, gallery(pairs, "gallery wide")))
    return section("attention", TITLE, lines)


def heated(pixels: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A picture under a map's colours.

    Args:
        pixels: float32 [H, W, 3], 0..255.
        heat: float32 [h, w], 0..1.

    Returns:
        uint8 [H, W, 3].
    """
    from matplotlib import colormaps

    size = pixels.shape[1], pixels.shape[0]
    large = np.asarray(Image.fromarray(heat).resize(size, Image.Resampling.BILINEAR))[..., None]  # [H, W, 1]
    colours = 255 * colormaps["inferno"](large[..., 0])[..., :3]
    return ((1 - STRENGTH) * pixels + STRENGTH * colours).round().clip(0, 255).astype(np.uint8)


def _pair(evaluated: Evaluated, row: int, pixels: np.ndarray, heat: np.ndarray, album: Album) -> Markup:
    truth, answer, sure = evaluated.answer(row)
    seen = album.picture(pixels.round().clip(0, 255).astype(np.uint8), f"{truth}, as the network saw it", SIDE)
    under = album.picture(heat, f"what of it spoke for {answer}", SIDE)
    taken = f"taken for {answer}" if truth != answer else "rightly"
    caption = html("{} <span>{}, {}</span>", truth, taken, percent(sure))
    return figure(html("<div>{}{}</div>", seen, under), caption)
