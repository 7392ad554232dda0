"""The fields that every config has, with their defaults. Config files change some of them."""

from ml_collections import ConfigDict


def base(model: ConfigDict) -> ConfigDict:
    """A config around a `model` section. It is locked: no field can be added, every one changed.

    What the fields mean is said where they are used, in the classes named here.
    """
    return ConfigDict(
        dict(
            seed=0,
            model=model,
            # diffusion_jax.data.sources.DataConfig
            data=dict(
                name="npz",
                path="",
                split="train",
                crop="centre",
                frame_stride=1,
                flip=False,
                on_bad_record="stop",
            ),
            # 'stable_diffusion' for data that are its moments; weights, to look at samples
            autoencoder=dict(name="none", weights=""),
            # diffusion_jax.objectives.Objective
            objective=dict(
                schedule=schedule("linear"),
                prediction="eps",
                loss="eps",
                variance="fixed",
                input_scale=1.0,
                normalize_input=False,
                clip_x0=True,
                self_conditioning="mask",
                self_conditioning_rate=0.9,
                label_dropout=0.0,
            ),
            # diffusion_jax.training.optimizers.OptimizerConfig
            optimizer=dict(
                name="lamb",
                learning_rate=2e-3,
                warmup_steps=10_000,
                decay="cosine",
                cosine_part=0.7,
                b1=0.9,
                b2=0.999,
                eps=1e-8,
                weight_decay=0.01,
                clip_norm=0.0,
            ),
            ema_decay=0.9999,
            # diffusion_jax.training.power_ema: EMAs of these widths, as (0.05, 0.1), stored every
            # so many steps, from which launch.posthoc_ema makes others; by default none
            posthoc_ema=dict(sigma_rels=(), every=5_000),
            train=dict(
                steps=150_000,
                batch_size=1024,
                accumulate=1,
                log_every=100,
                checkpoint_every=5_000,
                keep_checkpoints=3,
                keep_every=0,  # and every checkpoint of a multiple of this step; 0 for none
                grid_every=10_000,  # 0 draws none
                grid_size=64,
                eval_every=0,  # 0 never scores
            ),
            # launch.eval_in_training: files of weights and of launch.reference, number of samples
            evaluation=dict(inception="", reference="", num=5_000),
            # diffusion_jax.sharding.make_mesh: parts of the parameters; the rest share the batch
            mesh=dict(fsdp=1, tensor=1),
            # diffusion_jax.samplers.Sampling
            sampling=dict(
                schedule=schedule("cosine_simple"),
                sampler="ddpm",
                steps=1000,
                spacing="even",
                guidance=0.0,
                guidance_interval=(0.0, 1.0),
                guided_channels=0,  # 0 guides all
                time_shift=0.0,
                carry_decay=0.0,
            ),
        )
    ).lock()


def schedule(
    name: str, start: float = 0.0, end: float = 1.0, tau: float = 1.0, steps: int = 1000
) -> ConfigDict:
    """A gamma(t) of diffusion_jax.schedules, which ignores the numbers that it does not have."""
    return ConfigDict(dict(name=name, start=start, end=end, tau=tau, steps=steps))


def images(size: int, channels: int, patch_size: int) -> dict:
    """Geometry of square images."""
    return dict(kind="images", height=size, width=size, channels=channels, patch_size=patch_size)


def rin() -> ConfigDict:
    """The `model` section of a RIN: the attributes of `rin_jax.RIN`."""
    return ConfigDict(
        dict(
            name="rin",
            geometry=images(size=64, channels=3, patch_size=8),
            num_latents=128,
            process_layers=(6, 6, 6, 6),
            latent_dim=768,
            latent_heads=16,
            latent_mlp_ratio=4,
            interface_dim=512,
            interface_mlp_ratio=4,
            read_write_heads=16,
            num_classes=1000,
            time_on="latents",
            condition_on="latents",
            project_condition=True,
            writable_condition=False,
            decoupled_read=False,
            condition_dim=0,
            latent_positions="learned",
            interface_positions="learned",
            self_conditioning="latent",
            normalize_source=False,
            time_scaling=1000.0,
            dropout=0.0,
            drop_path=0.0,
            attention_dropout=0.0,
            convolution=0,
            convolution_dropout=0.0,
            attention="einsum",
            remat="none",
            unroll=False,
            dtype="float32",
        )
    )


def diffussm() -> ConfigDict:
    """The `model` section of a DiffuSSM: the attributes of `diffussm_jax.DiffuSSM`, of size XL."""
    return ConfigDict(
        dict(
            name="diffussm",
            geometry=images(size=32, channels=4, patch_size=1),
            dim=1152,
            layers=29,
            expansion=2,
            state_size=64,
            start="lin",
            form="auto",
            reading="flops",
            num_classes=1000,
            positions="none",
            learned_variance=True,
            remat="none",
            unroll=False,
            dtype="float32",
        )
    )
