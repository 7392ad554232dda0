"""A batch of images, videos or moments of latents as what a loss is computed of."""

import jax
import jax.numpy as jnp

from diffusion_jax.autoencoder.moments import to_latents, unpack
from diffusion_jax.autoencoder.scaling import STABLE_DIFFUSION, Scaling
from diffusion_jax.denoiser import Condition
from diffusion_jax.diffusion import process

Batch = dict[str, jax.Array]


def split_batch(
    batch: Batch,
    keys: jax.Array,
    scale: float,
    conditioning_frames: int,
    scaling: Scaling = STABLE_DIFFUSION,
) -> tuple[jax.Array, Condition]:
    """Split a batch into the data to denoise and what they are conditioned on.

    Args:
      batch: 'images' (B, ...) uint8 or [0, 1] float, or 'moments' (B, h, w, 2c) of latents; and
        'labels' (B,) int32 if there are classes.
      keys: (B,) keys of the examples.
      scale: b; images are mapped to [-b, b].
      conditioning_frames: leading frames of a video that are given, not generated.
      scaling: scale and shift of latents.

    Returns:
      (x0, condition). Latents are sampled from their posterior anew at every step.
    """
    frames = None
    if "moments" in batch:
        posterior = unpack(batch["moments"])
        # 2^31 is no position in a batch, so these keys are independent of those of the noise.
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, 2**31)
        eps = jax.vmap(lambda key: jax.random.normal(key, posterior.mean.shape[1:]))(own)
        x0 = to_latents(posterior.sample(eps), scaling)
    else:
        x0 = jnp.asarray(process.to_model_range(batch["images"], scale))
    if conditioning_frames:
        frames, x0 = x0[:, :conditioning_frames], x0[:, conditioning_frames:]
    return x0, Condition(labels=batch.get("labels"), frames=frames)
