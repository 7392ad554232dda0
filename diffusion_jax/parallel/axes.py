"""What a network declares about its parameters, and the one table from axis names to mesh axes.

A network names the axes of every parameter where it makes it, and says how the parameter wants to
be treated:

    kernel = self.param("kernel", declare(glorot, "embed", "channels"), (dim, width))
    bias = self.param("bias", declare(zeros, "channels", adapted=False), (width,))

During initialisation a declared parameter lies in a box (Flax's logical partitioning; `nn.unbox`
takes it out), and a scan over layers adds its axis, 'layers', to the box. `declarations` collects
the boxes without computing anything. The sharding, the optimizer, the diagnostics and the exports
read them, so that none of these has to recognise a parameter by its path. States and checkpoints
hold plain arrays.
"""

from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn
from flax import struct

LAYERS = "layers"  # the axis of a stack, over which one scan runs: never split

# Axis of a parameter -> axis of the mesh; other axes are not split over 'tensor'. What is left
# goes to 'fsdp', see `diffusion_jax.parallel.sharding`. As in Megatron-LM (arXiv 1909.08053) a
# pair of matrices is split along the width between them, so that only their result is summed.
RULES: dict[str | None, str] = {
    "channels": "tensor",  # of a state space layer, each of which is convolved by itself
    "fused": "tensor",  # the width of DiffuSSM's gated fusion
}


class Declared(nn.LogicallyPartitioned):
    """A parameter in a box that tells what it is.

    Attributes:
      value: the array, or its shape.
      names: the name of each axis, None for one without a name.
      adapted: whether weight decay and LAMB's trust ratio apply to it. Matrices are, norms and
        biases are not.
      capped: whether its learning rate has an upper bound, as S4D's time steps want.
      exact: whether exports keep it in float32.
    """

    adapted: bool = struct.field(default=True, pytree_node=False)
    capped: bool = struct.field(default=False, pytree_node=False)
    exact: bool = struct.field(default=False, pytree_node=False)

    @property
    def layers(self) -> int:
        """The number of leading axes that count layers: one for each stack around it."""
        others = (i for i, name in enumerate(self.names) if name != LAYERS)
        return next(others, len(self.names))

    def add_axis(self, index: int, params: dict[Any, Any]) -> "Declared":
        """Return the box of a stack of such parameters; a scan that names no axis adds 'layers'."""
        return super().add_axis(index, {nn.PARTITION_NAME: LAYERS, **params})

    def remove_axis(self, index: int, params: dict[Any, Any]) -> "Declared":
        """Return the box of one of the stack: the inverse of `add_axis`."""
        return super().remove_axis(index, {nn.PARTITION_NAME: LAYERS, **params})

    def unbox(self, apply_constraint: bool = True) -> Any:
        """Return the value as it is: shardings are pinned where a function is jitted."""
        return self.value


def declare(init: Callable, *axes: str | None, **facts: bool) -> Callable:
    """Return an initialiser that declares these axes and `facts`, attributes of `Declared`.

    Raises:
      ValueError: from the initialiser, unless it names every axis of what it makes.
    """

    def declared(*args: Any, **kwargs: Any) -> Declared:
        value = init(*args, **kwargs)
        if len(axes) != value.ndim:
            raise ValueError(f"declare names the axes {axes} of a parameter {value.shape}")
        return Declared(value, axes, **facts)

    return declared


def dense_inits(kernel_init: Callable, inputs: str | None, outputs: str | None) -> dict[str, Any]:
    """Return declared initialisers of a kernel and a zero bias, as keywords of `nn.Dense`."""
    return {
        "kernel_init": declare(kernel_init, inputs, outputs),
        "bias_init": declare(nn.initializers.zeros, outputs, adapted=False),
    }


def is_declared(node: Any) -> bool:
    """Whether a node of a tree of declarations is one of them."""
    return isinstance(node, Declared)


def map_declared(function: Callable, declared: Any, *trees: Any) -> Any:
    """Apply `function` to each declaration and the leaves of trees like the parameters."""
    return jax.tree.map(function, declared, *trees, is_leaf=is_declared)


def facts(declared: Any, name: str) -> Any:
    """Return a tree like the parameters of one attribute of their declarations, as 'adapted'."""
    return map_declared(lambda box: getattr(box, name), declared)


def boxed(params: Any) -> Any:
    """Return parameters of which those without a box get one of Flax's, with nameless axes."""

    def box(leaf: Any) -> nn.meta.AxisMetadata:
        return leaf if _is_box(leaf) else nn.LogicallyPartitioned(leaf, (None,) * leaf.ndim)

    return jax.tree.map(box, params, is_leaf=_is_box)


def complete(params: Any) -> Any:
    """Return the declarations of a tree of boxes, arrays or shapes.

    A parameter that is not declared is not split over 'tensor', and is adapted if it is a matrix.
    Flax's own boxes serve, too, for the axes alone.
    """

    def declared(box: Any) -> Declared:
        if is_declared(box):
            return box
        made = Declared(box.value, box.names)
        return made.replace(adapted=len(made.names) - made.layers > 1)

    return jax.tree.map(declared, boxed(params), is_leaf=_is_box)


def declarations(denoiser: nn.Module, *inputs: Any) -> Any:
    """Return what a network declares: a tree like its parameters, each leaf a `Declared` shape.

    Args:
      inputs: what `denoiser.init` takes after the key. Nothing is computed.
    """
    return complete(jax.eval_shape(denoiser.init, jax.random.key(0), *inputs)["params"])


def _is_box(node: Any) -> bool:
    return isinstance(node, nn.meta.AxisMetadata)
