"""Pictures come into the page whole, or smaller where they are large."""

import base64
import io

import numpy as np
from PIL import Image

from diffusion_jax.reporting.page import inline


def test_small_pictures_stand_as_they_are_and_large_ones_shrink(tmp_path):
    path = tmp_path / "a.png"
    Image.new("L", (30, 20)).save(path)
    small = inline(path)
    assert small.uri == "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    assert small[1:] == (60, 40, True)
    pixels = np.random.default_rng(0).integers(0, 256, (600, 1500, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    large = inline(path)
    assert len(large.uri) < path.stat().st_size / 4
    kind, data = large.uri.split(",")
    assert kind == "data:image/webp;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (1024, 410) == large[1:3]
