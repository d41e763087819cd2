"""Pictures in a page, and for loggers."""

import base64
import io
from collections.abc import Iterable
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from PIL.Image import Image


def enlarged(picture: "Image", size: int) -> "Image":
    """Return a picture whose longer side has about ``size`` pixels; the pixels of a small one are repeated."""
    from PIL.Image import Resampling

    picture = picture.copy()
    picture.thumbnail((size, size))
    scale = max(1, size // max(picture.size))
    return picture.resize((picture.width * scale, picture.height * scale), Resampling.NEAREST)


def picture_html(picture: "Image") -> Markup:
    """Return the HTML of a picture, which is part of the page."""
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    content = base64.b64encode(stream.getvalue()).decode()
    return Markup('<img alt="picture" src="data:image/png;base64,{}">').format(content)


def grid(figures: Iterable[tuple[Markup, Markup]]) -> Markup:
    """Return the HTML of pictures side by side, each above its caption."""
    cards = [Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(*figure) for figure in figures]
    return Markup('<div class="grid">{}</div>').format(Markup("").join(cards))
