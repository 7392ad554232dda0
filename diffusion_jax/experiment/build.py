"""From a config to the objects that it describes; every mistake in it is found here."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from diffusion_jax.autoencoder.decoding import make_decoder
from diffusion_jax.autoencoder.scaling import Scaling
from diffusion_jax.autoencoder.weights import Pretrained
from diffusion_jax.data.sources import DataConfig, Source, open_source
from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.diffusion import process
from diffusion_jax.diffusion.objectives import Objective
from diffusion_jax.diffusion.schedules import TABLES, Schedule, make_schedule
from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.experiment.latents import check_data, load_decoder, scaling_of
from diffusion_jax.experiment.schema import SECTIONS, RunConfig, ScheduleConfig
from diffusion_jax.fields import make
from diffusion_jax.geometry import Images, Video
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.axes import declarations
from diffusion_jax.parallel.sharding import Mesh, of_state
from diffusion_jax.reporting.tables import Table
from diffusion_jax.sampling.editing import NOTHING, Given
from diffusion_jax.sampling.guidance import Guidance
from diffusion_jax.sampling.samplers import Sampling
from diffusion_jax.sampling.scan import make_sampler
from diffusion_jax.training.optimizers import OptimizerConfig, make_optimizer
from diffusion_jax.training.power_ema import gamma_of
from diffusion_jax.training.state import TrainState, create_state, tracked
from diffusion_jax.training.step import make_train_step
from diffussm_jax import DiffuSSM
from rin_jax import RIN

GEOMETRIES = {"images": Images, "video": Video}
MODELS = {"rin": RIN, "diffussm": DiffuSSM}
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a config describes, checked.

    Attributes:
      denoiser: the network.
      objective, sampling, optimizer: see their classes.
      example_shape: of one example in the data, conditioning frames included.
      sample_shape: of one generated sample, latents or an image.
      num_classes: 0 for unconditional.
      autoencoder: None for a network of pixels; for one of latents the path of the weights, which
        may be ''.
      scaling: of latents.
      ema_powers: exponents of the averages that a run stores, see `power_ema`; () for none.
    """

    denoiser: Any
    objective: Objective
    sampling: Sampling
    optimizer: OptimizerConfig
    example_shape: tuple[int, ...]
    sample_shape: tuple[int, ...]
    num_classes: int
    autoencoder: str | None
    scaling: Scaling
    ema_powers: tuple[float, ...]

    @property
    def conditioning_frames(self) -> int:
        """Frames of a video that are given, 0 for images."""
        return self.example_shape[0] - self.sample_shape[0] if len(self.sample_shape) == 4 else 0

    @property
    def _inputs(self) -> tuple[Any, ...]:
        """What a network is initialised with: arguments of its call, for one example."""
        one = jnp.ones((1, *self.sample_shape))
        frames = jnp.ones((1, self.conditioning_frames, *self.sample_shape[1:]))
        condition = Condition(labels=jnp.zeros((1,), jnp.int32), frames=frames)
        carry = self.denoiser.initial_carry(1)
        noise = NoiseLevel(jnp.ones((1,)), jnp.zeros((1,), jnp.int32))
        return one, noise, condition, carry

    @functools.cached_property
    def declared(self) -> Any:
        """What the network declares about its parameters, see `diffusion_jax.parallel.axes`."""
        return declarations(self.denoiser, *self._inputs)

    def sharding(self, tree: Any, mesh: Mesh) -> Any:
        """Return the sharding of every leaf of parameters or of a state, see `of_state`."""
        return of_state(tree, mesh, self.declared)

    def init_params(self, key: jax.Array) -> Any:
        """Return the parameters of a new network, out of the boxes that declare their axes."""
        return nn.unbox(self.denoiser.init(key, *self._inputs)["params"])

    def init_state(self, seed: int, total_steps: int) -> TrainState:
        """The state before the first step."""
        return self.state_of(self.init_params(jax.random.key(seed)), total_steps)

    def state_of(self, params: Any, total_steps: int) -> TrainState:
        """The state with these parameters and fresh moments."""
        optimizer = make_optimizer(self.optimizer, total_steps, self.declared)
        state = create_state(params, optimizer, self.optimizer.start_step)
        return tracked(state, len(self.ema_powers))

    def train_step(self, config: ConfigDict, state: TrainState, mesh: Mesh) -> Callable:
        """`diffusion_jax.training.step.make_train_step` of this network, as its config says."""
        return make_train_step(
            self.denoiser,
            self.objective,
            make_optimizer(self.optimizer, config.train.steps, self.declared),
            self.sharding(state, mesh),
            mesh,
            seed=config.seed,
            ema_decay=config.ema_decay,
            ema_powers=self.ema_powers,
            accumulate=config.train.accumulate,
            conditioning_frames=self.conditioning_frames,
            scaling=self.scaling,
        )

    def sampler(
        self,
        mesh: Mesh,
        seed: int,
        order: np.ndarray | None = None,
        watched: Sequence[int] = (),
    ) -> Callable[..., np.ndarray]:
        """(params, indices, condition, given) -> uint8 images, latents decoded; see `make_sampler`.

        Raises:
          UserError: if the weights of the autoencoder cannot be read or do not fit, or, from the
            function that is returned, if a sample is not finite.
        """
        run = make_sampler(
            self.denoiser,
            self.objective,
            self.sampling,
            self.sample_shape,
            mesh,
            seed=seed,
            latents=self.autoencoder is not None,
            order=order,
            watched=watched,
        )

        def drawn(params, indices: np.ndarray, condition, given: Given = NOTHING) -> np.ndarray:
            return hosts.to_host(run(params, *hosts.put((indices, condition, given), mesh)))

        if self.autoencoder is None:
            return drawn
        decode = make_decoder(self.pretrained, mesh)

        def decoded(params, indices: np.ndarray, *arguments) -> np.ndarray:
            latents = drawn(params, indices, *arguments)
            rows = latents.reshape(-1, *self.sample_shape)
            images = decode(rows, np.repeat(indices, len(rows) // len(indices)))
            return images.reshape(*latents.shape[:-3], *images.shape[1:])

        return decoded

    def to_images(self, mesh: Mesh) -> Callable[..., np.ndarray]:
        """x0 (B, ...) -> uint8 images, latents decoded. Raises as `sampler`."""
        if self.autoencoder is None:
            return lambda x0: np.asarray(process.to_uint8(x0, self.objective.input_scale))
        return make_decoder(self.pretrained, mesh)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of what is looked at: of a sample, once decoded. Raises as `sampler`."""
        if self.autoencoder is None:
            return self.sample_shape
        model = self.pretrained.model
        sides = (model.factor * side for side in self.sample_shape[:2])
        return (*sides, model.image_channels)

    @functools.cached_property
    def pretrained(self) -> Pretrained:
        """The autoencoder and its weights. Raises as `sampler`."""
        return load_decoder(self.autoencoder, self.sample_shape[-1], self.scaling)


def build(config: ConfigDict) -> Experiment:
    """Makes everything that needs no data, file or device.

    Raises:
      UserError: for the first field that cannot work.
    """
    run = {name: make(kind, config[name], name) for name, kind in SECTIONS.items()}
    make(RunConfig, {name: config[name] for name in ("seed", "ema_decay")}, "config")
    ema_powers = tuple(map(gamma_of, run["posthoc_ema"].sigma_rels))
    schedule = _schedule(config.objective.schedule, "objective.schedule")
    objective = make(Objective, {**config.objective, "schedule": schedule}, "objective")
    denoiser = build_denoiser(config.model)
    _check_fit(config, denoiser, objective)
    geometry = denoiser.geometry
    sample_shape = example_shape = geometry.sample_shape
    if isinstance(geometry, Video):
        example_shape = (geometry.frames, *sample_shape[1:])
    latents = run["autoencoder"].name == "stable_diffusion"
    if latents:
        _check_latents(config, geometry)
        example_shape = (*sample_shape[:-1], 2 * sample_shape[-1])  # mean and log-variance
    sampling = build_sampling(config.sampling)
    if sampling.guidance.weight and not (denoiser.num_classes and config.objective.label_dropout):
        raise UserError(
            f"sampling.guidance is {sampling.guidance.weight}: it needs a network with classes, "
            "trained with label dropout (config.objective.label_dropout=0.1), and this is none"
        )
    return Experiment(
        denoiser,
        objective,
        sampling,
        make(OptimizerConfig, config.optimizer, "optimizer"),
        example_shape,
        sample_shape,
        denoiser.num_classes,
        run["autoencoder"].weights if latents else None,
        scaling_of(config),
        ema_powers,
    )


def build_sampling(section: ConfigDict) -> Sampling:
    """The `sampling` section."""
    fields = dict(section)
    weight, interval, channels = (
        fields.pop(name) for name in ("guidance", "guidance_interval", "guided_channels")
    )
    fields["schedule"] = _schedule(fields["schedule"], "sampling.schedule")
    guidance = {"weight": weight, "interval": interval, "channels": channels}
    fields["guidance"] = make(Guidance, guidance, "sampling.guidance")
    return make(Sampling, fields, "sampling")


def _schedule(section: ConfigDict, name: str) -> Schedule:
    return make_schedule(**dataclasses.asdict(make(ScheduleConfig, section, name)))


def build_source(config: ConfigDict, experiment: Experiment) -> Source:
    """The config's data set, checked against its model."""
    latents = experiment.autoencoder is not None
    source = open_source(
        make(DataConfig, config.data, "data"),
        experiment.example_shape,
        experiment.num_classes,
        latents=latents,
    )
    if latents:
        check_data(config.data.path, source.scaling, experiment.scaling)
    return source


def build_denoiser(section: ConfigDict) -> Any:
    """The `model` section."""
    fields = dict(section)
    name = fields.pop("name")
    check_choice("model.name", name, MODELS)
    geometry = dict(fields["geometry"])
    kind = geometry.pop("kind")
    check_choice("model.geometry.kind", kind, GEOMETRIES)
    fields["geometry"] = make(GEOMETRIES[kind], geometry, "model.geometry")
    if "dtype" in fields:
        check_choice("model.dtype", fields["dtype"], DTYPES)
        fields["dtype"] = jnp.dtype(fields["dtype"])
    return make(MODELS[name], fields, "model")


def _check_latents(config: ConfigDict, geometry: Any) -> None:
    """Raises `UserError` for what latents do not go with."""
    if not isinstance(geometry, Images):
        raise UserError("autoencoder.name is 'stable_diffusion': latents are of images alone")
    if config.objective.input_scale != 1:
        raise UserError(
            f"objective.input_scale is {config.objective.input_scale}: latents have the scale of "
            "their autoencoder; set it to 1"
        )


def _check_fit(config: ConfigDict, denoiser: Any, objective: Objective) -> None:
    """Raises `UserError` where network, objective and sampler are made for different things."""
    has_head, wants_head = config.model.get("learned_variance", False), objective.variance
    if has_head != (wants_head == "learned"):
        raise UserError(
            f"the network {'has a' if has_head else 'has no'} variance head, and "
            f"objective.variance is {wants_head!r}: change one (a head is "
            "config.model.learned_variance=True, of DiffuSSM)"
        )
    if config.sampling.sampler == "ddpm_learned" and not has_head:
        raise UserError(
            "sampling.sampler is 'ddpm_learned': this network has no variance head; choose another"
        )
    training, sampling = config.objective.schedule, config.sampling.schedule
    is_table = isinstance(objective.schedule, Table)
    if getattr(denoiser, "discrete_time", False) and not is_table:
        raise UserError(
            f"objective.schedule is {training.name!r}: {type(denoiser).__name__} is told the "
            f"timesteps of a table; choose one of {', '.join(TABLES)}"
        )
    if (is_table or sampling.name in TABLES) and training.to_dict() != sampling.to_dict():
        raise UserError(
            f"sampling.schedule is {sampling.name!r} and objective.schedule {training.name!r}: a "
            "table must be the same in both, with the same steps; sampling.steps respaces it"
        )
