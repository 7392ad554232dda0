"""The pages of reports: each is one file that loads no other."""

import base64
import datetime
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup, escape

from diffusion_jax.data.images import LARGEST, open_image
from diffusion_jax.data.records import decoding, naming
from diffusion_jax.storage.untrusted import read_regular

FORMATS = ("PNG", "GIF")  # of pictures
_TEMPLATES = Path(__file__).with_name("templates")
_LARGE = 300_000  # bytes of a PNG that stands in the page as it is
_WIDEST = 1024  # pixels of a larger one
_SMALL = 400  # pixels: narrower pictures are shown twice as wide


class Inline(NamedTuple):
    """A picture in the page.

    Attributes:
      uri: data URI.
      width, height: CSS pixels to show it at, if there is room.
      enlarged: whether these are more than the picture has.
    """

    uri: str
    width: int
    height: int
    enlarged: bool


def inline(path: Path) -> Inline:
    """Return a picture for the page: a GIF as it is, a large PNG scaled down.

    Raises:
      BadRecord: for anything else, naming the file.
    """
    with naming(str(path)), decoding():
        data = read_regular(path, LARGEST)
        image = open_image(data, FORMATS)
        image.load()
        kind, (width, height) = str(image.format).lower(), image.size
        if kind == "png" and len(data) > _LARGE:
            image = image.convert("RGB")
            image.thumbnail((_WIDEST, height))
            (width, height), written = image.size, io.BytesIO()
            image.save(written, "webp", quality=85)
            data, kind = written.getvalue(), "webp"
    factor = 2 if width < _SMALL else 1
    uri = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return Inline(uri, factor * width, factor * height, factor > 1)


def render(template: str, **content: Any) -> str:
    """Return a page, filled with what its template names; all text but SVG is escaped.

    Args:
      template: 'report.html.j2' or 'comparison.html.j2'.
      **content: what the template names, and `live`: see `Server.changed`; '' for a file.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _breakable, "arguments": _arguments}
    now = f"{datetime.datetime.now(datetime.UTC):%d %B %Y, %H:%M} UTC"
    environment.globals |= {"asset": _asset, "written": now, "live": content.pop("live")}
    return environment.get_template(template).render(**content)


def _asset(name: str) -> Markup:
    """Return a script or a style of the page, without the address that uPlot begins with."""
    text = (_TEMPLATES / name).read_text()
    return Markup(re.sub(r"\A/\*! https?:\S+ (\S+) \*/", r"/*! uPlot \1 */", text))


def _arguments(command: str) -> Markup:
    """Let a command break between its arguments where the page is narrow."""
    return Markup(" ").join(Markup("<span>{}</span>").format(part) for part in command.split(" "))


def _breakable(text: object) -> Markup:
    """Let a field or its value break after dots and underscores where the page is narrow."""
    return Markup(escape(text).replace(".", Markup(".<wbr>")).replace("_", Markup("_<wbr>")))
