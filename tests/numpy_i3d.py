"""I3D as its authors and pytorch-i3d wrote it down: tensors by name, and NumPy in float64."""

import math

import numpy as np

# Name -> input channels, output channels of the units b0, b1a, b1b, b2a, b2b, b3b.
BLOCKS = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


def unit_sizes() -> dict[str, tuple[int, int, int]]:
    """Name of each convolution -> input channels, output channels, side of its kernel."""
    sizes = {
        "Conv3d_1a_7x7": (3, 64, 7),
        "Conv3d_2b_1x1": (64, 64, 1),
        "Conv3d_2c_3x3": (64, 192, 3),
    }
    for block, (inputs, (b0, b1a, b1b, b2a, b2b, b3b)) in BLOCKS.items():
        sizes |= {
            f"{block}.b0": (inputs, b0, 1),
            f"{block}.b1a": (inputs, b1a, 1),
            f"{block}.b1b": (b1a, b1b, 3),
            f"{block}.b2a": (inputs, b2a, 1),
            f"{block}.b2b": (b2a, b2b, 3),
            f"{block}.b3b": (inputs, b3b, 1),
        }
    return sizes | {"logits": (1024, 400, 1)}


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of each tensor of a state dict that knows no counters of batches."""
    shapes = {}
    for unit, (inputs, outputs, side) in unit_sizes().items():
        shapes[f"{unit}.conv3d.weight"] = (outputs, inputs, side, side, side)
        norm = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
        for name in ("conv3d.bias",) if unit == "logits" else norm:
            shapes[f"{unit}.{name}"] = (outputs,)
    return shapes


def random_tensors() -> dict[str, np.ndarray]:
    """Float32 weights that keep activations of order 1 from the first unit to the last."""
    rng = np.random.default_rng(0)
    tensors = {}
    for name, shape in tensor_shapes().items():
        noise = rng.standard_normal(shape, np.float32)
        if name.endswith("conv3d.weight"):
            noise *= math.sqrt(2 / math.prod(shape[1:]))
        elif name.endswith("running_var"):
            noise = np.exp(noise / 4)
        elif name.endswith("bn.weight"):
            noise = 1 + noise / 4
        else:
            noise /= 4
        tensors[name] = noise
    return tensors


def pad_same(x: np.ndarray, window: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    """Zeros around (T, H, W, C) as pytorch-i3d counts them: the odd one goes to the end."""
    pads = []
    for size, side, step in zip(x.shape[:3], window, stride, strict=True):
        total = max(side - (size % step or step), 0)
        pads.append((total // 2, total - total // 2))
    return np.pad(x, [*pads, (0, 0)])


def shifted(x: np.ndarray, window: tuple[int, ...], stride: tuple[int, ...]):
    """Each offset in the window, with what a strided walk over (T, H, W, C) meets there."""
    x = pad_same(x, window, stride)
    counts = [
        (n - side) // step + 1 for n, side, step in zip(x.shape, window, stride, strict=False)
    ]
    for offset in np.ndindex(*window):
        walk = zip(offset, counts, stride, strict=True)
        yield offset, x[tuple(slice(o, o + step * (n - 1) + 1, step) for o, n, step in walk)]


def max_pool(x: np.ndarray, window: tuple[int, ...], stride: tuple[int, ...]) -> np.ndarray:
    """Max pool that takes padding for zeros, as pytorch-i3d does: harmless after a ReLU."""
    return np.max([part for _, part in shifted(x, window, stride)], axis=0)


class Network:
    """The network of some tensors, one video at a time."""

    def __init__(self, tensors: dict[str, np.ndarray]):
        self.tensors = {name: value.astype(np.float64) for name, value in tensors.items()}

    def unit(self, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
        """Convolution, batch norm, ReLU."""
        kernel = self.tensors[f"{name}.conv3d.weight"]
        walk = shifted(x, kernel.shape[2:], (stride,) * 3)
        x = sum(part @ kernel[:, :, *offset].T for offset, part in walk)
        bn = {key: self.tensors[f"{name}.bn.{key}"] for key in ("weight", "bias")}
        mean, variance = (self.tensors[f"{name}.bn.running_{key}"] for key in ("mean", "var"))
        x = (x - mean) / np.sqrt(variance + 0.001) * bn["weight"] + bn["bias"]
        return np.maximum(x, 0)

    def block(self, name: str, x: np.ndarray) -> np.ndarray:
        """An Inception block."""
        b1 = self.unit(f"{name}.b1b", self.unit(f"{name}.b1a", x))
        b2 = self.unit(f"{name}.b2b", self.unit(f"{name}.b2a", x))
        b3 = self.unit(f"{name}.b3b", max_pool(x, (3, 3, 3), (1, 1, 1)))
        return np.concatenate([self.unit(f"{name}.b0", x), b1, b2, b3], axis=-1)

    def logits(self, video: np.ndarray) -> np.ndarray:
        """(T, H, W, 3) -> (400,), with a head that pools over the whole map."""
        x = self.unit("Conv3d_1a_7x7", video.astype(np.float64), stride=2)
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.unit("Conv3d_2c_3x3", self.unit("Conv3d_2b_1x1", x))
        x = max_pool(x, (1, 3, 3), (1, 2, 2))
        for name in BLOCKS:
            if name == "Mixed_4b":
                x = max_pool(x, (3, 3, 3), (2, 2, 2))
            if name == "Mixed_5b":
                x = max_pool(x, (2, 2, 2), (2, 2, 2))
            x = self.block(name, x)
        pairs = np.stack([x[i : i + 2].mean(axis=(0, 1, 2)) for i in range(len(x) - 1)])
        kernel = self.tensors["logits.conv3d.weight"][:, :, 0, 0, 0]
        return (pairs @ kernel.T + self.tensors["logits.conv3d.bias"]).mean(axis=0)
