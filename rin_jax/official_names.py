"""What the official code (google-research/pix2seq) calls the parameters of RIN."""

from rin_jax.model import RIN

# Our module or parameter -> the official one, by the first component of our path.
_ROOTS = {
    "patch_kernel": "stem/kernel",
    "patch_bias": "stem/bias",
    "patch_norm": "stem_ln",
    "time": "time_emb",
    "condition": "cond_proj",
    "readout_norm": "output_ln",
    "readout": "output_linear",
}
_LEAVES = {
    "scale": "gamma",
    "up": "ffn/dense1",
    "down": "ffn/dense2",
    "in": "dense0",
    "out": "dense1",
}
_UNITS = {"read_condition": "read_cond"}
_CONVOLUTION = {
    "depthwise_kernel": "depthwise_conv/depthwise_kernel",
    "depthwise_bias": "depthwise_conv/bias",
    "norm/scale": "gn/gamma",
    "norm/bias": "gn/beta",
    "pointwise_kernel": "pointwise_conv/kernel",
    "pointwise_bias": "pointwise_conv/bias",
}


def official_names(path: tuple[str, ...], shape: tuple[int, ...], model: RIN) -> str | list:
    """Return the official name, or names, of one of our parameters.

    Args:
      path: of the parameter in our tree.
      shape: of the parameter, with its stacked layer axes.
      model: the network that it belongs to.

    Returns:
      A name, or lists of names nested over the layer axes; without their first component.
    """
    root, *rest = path
    if root in ("latent_positions", "interface_positions"):
        kind = getattr(model, root)
        return positions_name("latent" if root == "latent_positions" else "tape", kind)
    if root in ("latent_carry", "interface_carry"):
        prefix = "latent_prev" if root == "latent_carry" else "tape_prev"
        if rest[0] == "norm":
            return f"{prefix}_ln/{_LEAVES.get(rest[1], 'beta')}"
        return f"{prefix}_proj/{_branch(rest[1:])}"
    if root in _ROOTS:
        return "/".join([_ROOTS[root], *(_leaf(part, path) for part in rest)])
    first = _first_block(int(root.removeprefix("blocks_")), model.process_layers)
    blocks = range(first, first + shape[0])
    unit, *rest = rest
    if unit == "convolution":
        return [f"conv_units_{block}/{_CONVOLUTION['/'.join(rest)]}" for block in blocks]
    if unit == "process":
        return [
            [
                f"latent_processing_unit{block}/transformer_encoder{_suffix(layer)}/"
                + _sublayer(rest, "mha")
                for layer in range(shape[1])
            ]
            for block in blocks
        ]
    unit = _UNITS.get(unit, unit)
    return [
        f"{unit}_unit_{block}/transformer_decoder_layer/" + _sublayer(rest, "cross_mha")
        for block in blocks
    ]


def _first_block(run: int, process_layers: tuple[int, ...]) -> int:
    """Index of the first block of the run-th group of equal K."""
    starts = [i for i, k in enumerate(process_layers) if i == 0 or process_layers[i - 1] != k]
    return starts[run]


def _sublayer(path: list[str], attention: str) -> str:
    if path[0] == "mlp":
        return "mlp/" + _branch(path[1:])
    if path[0] == "attention":
        projection, leaf = path[1].rsplit("_", 1)
        projection = "attention_output" if projection == "out" else projection
        return f"{attention}/{projection}/{leaf}"
    norm = "ln" if path[0] == "norm" else "enc_ln"
    return f"{attention}/{norm}/{_leaf(path[1], path)}"


def _branch(path: list[str]) -> str:
    """A path inside `FeedForward`."""
    return "/".join(["ffn/ln" if part == "norm" else _leaf(part, path) for part in path])


def _leaf(part: str, path) -> str:
    if part == "bias" and any(parent.endswith("norm") for parent in path):
        return "beta"
    return _LEAVES.get(part, part)


def _suffix(i: int) -> str:
    return f"_{i}" if i else ""


def positions_name(stream: str, kind: str) -> str:
    """Return the official name of the learned positions of a stream, 'latent' or 'tape'."""
    if kind == "learned":
        return f"{stream}_pos_emb/kernel/vis_pos_embedding"
    return f"{stream}_pos_emb_res/kernel"
