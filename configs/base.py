"""The fields that every config has, with their defaults. Config files change some of them."""

import dataclasses

from ml_collections import ConfigDict

from diffusion_jax.experiment.schema import SECTIONS, RunConfig, ScheduleConfig


def base(model: ConfigDict) -> ConfigDict:
    """A config around a `model` section. It is locked: no field can be added, every one changed.

    What the fields mean is said where they are used, in the classes named here. The default of a
    new field must be what was done without it: runs and exports from before get it when their
    config is read.
    """
    return ConfigDict(
        dict(
            **dataclasses.asdict(RunConfig()),
            model=model,
            # diffusion_jax.experiment.schema
            **{name: dataclasses.asdict(section()) for name, section in SECTIONS.items()},
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
            # diffusion_jax.diffusion.objectives.Objective
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
            # diffusion_jax.sampling.samplers.Sampling
            sampling=dict(
                schedule=schedule("cosine_simple"),
                sampler="ddpm",
                steps=1000,
                spacing="auto",
                guidance=0.0,
                guidance_interval=(0.0, 1.0),
                guided_channels=0,  # 0 guides all
                time_shift=0.0,
                carry_decay=0.0,
            ),
        )
    ).lock()


def schedule(name: str, **parameters: float) -> ConfigDict:
    """A schedule of `diffusion_jax.diffusion.schedules`; it ignores the fields it does not have."""
    return ConfigDict(dataclasses.asdict(ScheduleConfig(name, **parameters)))


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
