"""Translate names of our parameters into those of the official code (google-research/pix2seq)."""

from diffusion_jax.storage.renaming import Shape, substitute
from rin_jax.model import RIN

# From our paths, joined by dots, to the official names: every rule in turn. The official "tape" is
# our interface. Blocks, and the layers that process the latents in one, are variables of their own
# there, and stacked along the first axes here: {block} and {layer} count along these axes.
_RULES = (
    (r"^patch_(kernel|bias)$", r"stem.\1"),
    (r"^patch_norm\b", "stem_ln"),
    (r"^time\.in\b", "time_emb.dense0"),
    (r"^time\.out\b", "time_emb.dense1"),
    (r"^condition\b", "cond_proj"),
    (r"^readout_norm\b", "output_ln"),
    (r"^readout\b", "output_linear"),
    # The streams: their positions, and what they carry from one step to the next.
    (r"^interface_", "tape_"),
    (r"_positions:learned$", "_pos_emb.kernel.vis_pos_embedding"),
    (r"_positions:\w+$", "_pos_emb_res.kernel"),
    (r"_carry\.norm\b", "_prev_ln"),
    (r"_carry\.mlp\b", "_prev_proj.ffn"),
    # The units of a block.
    (r"^blocks_\d+\.convolution\.norm\b", "conv_units_{block}.gn"),
    (r"^blocks_\d+\.convolution\b", "conv_units_{block}"),
    (r"\.(depthwise|pointwise)_(kernel|bias)$", r".\1_conv.\2"),
    (r"\.depthwise_conv\.kernel$", ".depthwise_conv.depthwise_kernel"),
    (r"^blocks_\d+\.process\b", "latent_processing_unit{block}.transformer_encoder{layer}.mha"),
    (r"^blocks_\d+\.read_condition\b", "blocks_0.read_cond"),
    (r"^blocks_\d+\.(\w+)", r"\1_unit_{block}.transformer_decoder_layer.cross_mha"),
    # The layers of a unit; its feed-forward part lies beside the attention there.
    (r"\.(cross_)?mha\.mlp\b", ".mlp.ffn"),
    (r"\.source_norm\b", ".enc_ln"),
    (r"\.norm\b", ".ln"),
    (r"\.attention\.out_", ".attention_output."),
    (r"\.attention\.(\w+)_(kernel|bias)$", r".\1.\2"),
    (r"\.up\b", ".dense1"),
    (r"\.down\b", ".dense2"),
    # Norms have gamma and beta, and all else kernel and bias.
    (r"(ln|gn)\.scale$", r"\1.gamma"),
    (r"(ln|gn)\.bias$", r"\1.beta"),
    (r"\.", "/"),
)


def official_names(path: str, shape: Shape, model: RIN) -> str | list:
    """Return the official name, or names, of one of our parameters.

    Args:
      path: of the parameter in our tree, joined by dots.
      shape: of the parameter, with its stacked layer axes.
      model: the network that it belongs to.

    Returns:
      A name, or lists of names nested over the layer axes; without their first component.
    """
    if path in ("latent_positions", "interface_positions"):
        return positions_name(path, getattr(model, path))
    name = substitute(_RULES, path)
    if "{block}" not in name:
        return name
    run, process_layers = int(path.split(".")[0].removeprefix("blocks_")), model.process_layers
    # A run is a group of consecutive blocks with equally many layers, which are stacked.
    starts = [i for i, k in enumerate(process_layers) if i == 0 or process_layers[i - 1] != k]
    blocks = range(starts[run], starts[run] + shape[0])
    if "{layer}" not in name:
        return [name.format(block=block) for block in blocks]
    layers = ["", *(f"_{i}" for i in range(1, shape[1]))]
    return [[name.format(block=block, layer=layer) for layer in layers] for block in blocks]


def positions_name(path: str, kind: str) -> str:
    """Return the official name of `latent_positions` or `interface_positions` of a kind."""
    return substitute(_RULES, f"{path}:{kind}")
