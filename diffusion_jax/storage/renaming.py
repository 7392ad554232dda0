"""Read and write other people's weights by a table of their names and axes.

Every reader of foreign weights (diffusers, pytorch-fid, the graph of Inception, pytorch-i3d, the
official RIN) is a `Layout`. It maps from our parameters to their tensors, and not the other way:
our network says which parameters there must be, so that the first tensor that is missing,
misshapen or left over can be named.
"""

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from einops import rearrange
from flax import linen as nn
from flax import traverse_util

from diffusion_jax.storage.tensors import check_tensors

Shape = tuple[int, ...]

# PyTorch keeps the output channels first, Flax last: theirs -> ours, by the number of axes.
PYTORCH = {
    2: "outputs inputs -> inputs outputs",
    4: "outputs inputs height width -> height width inputs outputs",
    5: "outputs inputs time height width -> time height width inputs outputs",
}


@dataclasses.dataclass(frozen=True)
class BatchNorm:
    """A batch norm of evaluation, which is folded into the convolution before it.

    With s = weight / sqrt(running_var + epsilon), and theirs named as PyTorch does,

        s * (kernel x - running_mean) + bias = (s * kernel) x + (bias - s * running_mean),

    computed in float64. Of one unit, the kernel is `<unit>.<convolution>.weight` and the norm
    `<unit>.bn.*`. A unit without a norm has the bias of its convolution.

    Attributes:
      convolution: the name of the convolution in its unit.
      plain: units that have no norm.
      epsilon: of the reference; both references have TensorFlow's.
    """

    convolution: str
    plain: tuple[str, ...] = ()
    epsilon: float = 1e-3

    def _norm(self, bias: str) -> list[str]:
        """Return their four tensors in place of the bias of a convolution, or none."""
        unit = bias.removesuffix(f".{self.convolution}.bias")
        if unit == bias or unit in self.plain:
            return []
        return [f"{unit}.bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]

    def unfold(self, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
        """Return the shapes that their file holds, for those of a network without norms."""
        return {
            theirs: shape for name, shape in shapes.items() for theirs in self._norm(name) or [name]
        }

    def fold(
        self, tensors: Mapping[str, np.ndarray], names: Iterable[str]
    ) -> dict[str, np.ndarray]:
        """Return the tensors called `names` of the network without norms."""
        folded = dict(tensors)
        for bias in names:
            if norm := self._norm(bias):
                weight, shift, mean, variance = (tensors[n].astype(np.float64) for n in norm)
                scale = weight / np.sqrt(variance + self.epsilon)
                kernel = bias.removesuffix("bias") + "weight"
                folded[kernel] = (tensors[kernel].T * scale).T  # output channels come first
                folded[bias] = shift - mean * scale
        return folded


@dataclasses.dataclass(frozen=True)
class Layout:
    """How others name, cut and turn the parameters of a network.

    Attributes:
      network: what it is called in messages, as 'autoencoder'.
      parameters: our tree of shapes and dtypes, as `jax.eval_shape` returns it.
      names: (our path, joined by dots, our shape) -> their name; or names nested in lists over
        the leading axes, where layers that we stack are tensors of their own.
      axes: by the number of axes of a tensor, what einops turns theirs into ours by; tensors of
        other numbers stay as they are.
      norms: the batch norms that we do not have.
      unused: shapes of their tensors that must be there and that we have no use for.
      dtypes: those that are read; any where there are none.
    """

    network: str
    parameters: Any
    names: Callable[[str, Shape], Any]
    axes: Mapping[int, str] = dataclasses.field(default_factory=dict)
    norms: BatchNorm | None = None
    unused: Mapping[str, Shape] = dataclasses.field(default_factory=dict)
    dtypes: tuple[str, ...] = ()

    def shapes(self) -> dict[str, Shape]:
        """Return their name and shape of every tensor."""
        shapes = self._plain_shapes()
        return (self.norms.unfold(shapes) if self.norms else shapes) | dict(self.unused)

    def read(self, tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return our tree of parameters from all of their tensors, in our dtypes.

        Raises:
          UserError: naming the first tensor that is missing, left over, or of another shape or
            dtype.
        """
        check_tensors(tensors, self.shapes(), self.network, self.dtypes)
        if self.norms:
            tensors = self.norms.fold(tensors, self._plain_shapes())
        params = {}
        for path, (names, leaf) in self._table().items():
            layers = [self._turn(tensors[name]) for name in names.flat]
            params[path] = jnp.asarray(np.stack(layers).reshape(leaf.shape), leaf.dtype)
        return traverse_util.unflatten_dict(params, sep=".")

    def write(self, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return their tensors of our parameters: the inverse of `read` where axes are ours."""
        flat = traverse_util.flatten_dict(params, sep=".")
        return {
            str(names[layer]): np.asarray(flat[path])[layer]
            for path, (names, _) in self._table().items()
            for layer in np.ndindex(names.shape)
        }

    def _table(self) -> dict[str, tuple[np.ndarray, Any]]:
        """Return {our path: (their names over its leading axes, our shape and dtype)}."""
        leaves = traverse_util.flatten_dict(nn.unbox(self.parameters), sep=".")
        return {
            path: (np.array(self.names(path, leaf.shape), dtype=object), leaf)
            for path, leaf in leaves.items()
        }

    def _plain_shapes(self) -> dict[str, Shape]:
        return {
            name: self._their_shape(leaf.shape[names.ndim :])
            for names, leaf in self._table().values()
            for name in names.flat
        }

    def _turn(self, tensor: np.ndarray) -> np.ndarray:
        return rearrange(tensor, self.axes[tensor.ndim]) if tensor.ndim in self.axes else tensor

    def _their_shape(self, shape: Shape) -> Shape:
        if len(shape) not in self.axes:
            return shape
        theirs, ours = (side.split() for side in self.axes[len(shape)].split("->"))
        sizes = dict(zip(ours, shape, strict=True))
        return tuple(sizes[axis] for axis in theirs)


def substitute(rules: Iterable[tuple[str, str]], name: str) -> str:
    """Return a name after every substitution (regular expression, replacement), in turn."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name
