"""A config made into the objects that it describes; every mistake in it is found here."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from ml_collections import ConfigDict

from diffusion_jax.autoencoder.decoding import make_decoder
from diffusion_jax.autoencoder.scaling import Scaling
from diffusion_jax.autoencoder.weights import Pretrained
from diffusion_jax.data.sources import DataConfig, FittedSource, open_source
from diffusion_jax.denoiser import Condition, NoiseLevel
from diffusion_jax.diffusion import process
from diffusion_jax.diffusion.objectives import Objective
from diffusion_jax.diffusion.schedules import Schedule, make_schedule
from diffusion_jax.errors import UserError, check_choice
from diffusion_jax.experiment.checks import check_fit, check_guidance, check_latents
from diffusion_jax.experiment.latents import check_data, load_decoder
from diffusion_jax.experiment.networks import Network, find_network
from diffusion_jax.experiment.schema import DTYPES, GEOMETRIES, SECTIONS
from diffusion_jax.experiment.sections import ScheduleConfig
from diffusion_jax.fields import make
from diffusion_jax.geometry import Video
from diffusion_jax.parallel import hosts
from diffusion_jax.parallel.axes import declarations
from diffusion_jax.parallel.sharding import Mesh, of_state
from diffusion_jax.sampling.editing import NOTHING, Given
from diffusion_jax.sampling.samplers import Sampling
from diffusion_jax.sampling.scan import SamplingProgram, Watch, make_sampler
from diffusion_jax.training.optimizers import OptimizerConfig, make_optimizer
from diffusion_jax.training.power_ema import gamma_of
from diffusion_jax.training.state import TrainState, create_state, tracked
from diffusion_jax.training.step import TrainStep, make_train_step

# The sections whose fields are those of their class, one to one.
_PLAIN = ("train", "autoencoder", "evaluation", "posthoc_ema", "mesh", "optimizer")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Everything that a config describes, checked.

    Attributes:
      network: what the network declares about itself.
      denoiser: the network.
      objective, sampling, optimizer: see their classes.
      example_shape: shape of one example in the data, conditioning frames included.
      sample_shape: shape of one generated sample, latents or an image.
      num_classes: 0 for unconditional.
      autoencoder: None for a network of pixels; for one of latents the path of the weights, which
        may be ''.
      scaling: scaling of the latents.
      ema_powers: exponents of the averages that a run stores, see `power_ema`; () for none.
    """

    network: Network
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
        """Number of given frames of a video, 0 for images."""
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
        """Return the sharding of every leaf of parameters or of a state, see `of_state`.

        Raises:
          UserError: if the mesh splits the width of layers, and no parameter can be split by it.
        """
        shardings, parts = of_state(tree, mesh, self.declared), mesh.shape["tensor"]
        if parts > 1 and not any("tensor" in leaf.spec for leaf in jax.tree.leaves(shardings)):
            raise UserError(
                f"mesh.tensor is {parts}: no parameter of this network can be split so; set it to "
                "1, and use mesh.fsdp"
            )
        return shardings

    def init_params(self, key: jax.Array) -> Any:
        """Return the parameters of a new network, out of the boxes that declare their axes."""
        return nn.unbox(self.denoiser.init(key, *self._inputs)["params"])

    def init_state(self, seed: int, total_steps: int) -> TrainState:
        """Return the state before the first step."""
        return self.state_of(self.init_params(jax.random.key(seed)), total_steps)

    def state_of(self, params: Any, total_steps: int) -> TrainState:
        """Return the state with these parameters and fresh moments."""
        optimizer = make_optimizer(self.optimizer, total_steps, self.declared)
        state = create_state(params, optimizer, self.optimizer.start_step)
        return tracked(state, len(self.ema_powers))

    def train_step(self, config: ConfigDict, state: TrainState, mesh: Mesh) -> Callable:
        """Return the compiled train step of this network; see `make_train_step`."""
        step = TrainStep(
            self.denoiser,
            self.objective,
            make_optimizer(self.optimizer, config.train.steps, self.declared),
            seed=config.seed,
            ema_decay=config.ema_decay,
            ema_powers=self.ema_powers,
            accumulate=config.train.accumulate,
            conditioning_frames=self.conditioning_frames,
            scaling=self.scaling,
        )
        return make_train_step(step, self.sharding(state, mesh), mesh)

    def reverse_process(
        self,
        mesh: Mesh,
        seed: int,
        order: np.ndarray | None = None,
        watch: Watch | None = None,
    ) -> SamplingProgram:
        """Return the jitted reverse process, whose latents are not decoded; see `make_sampler`."""
        return make_sampler(
            self.denoiser,
            self.objective,
            self.sampling,
            self.sample_shape,
            mesh,
            seed=seed,
            latents=self.autoencoder is not None,
            order=order,
            watch=watch,
        )

    def sampler(
        self, mesh: Mesh, seed: int, order: np.ndarray | None = None
    ) -> Callable[..., np.ndarray]:
        """Return (params, indices, condition, given) -> uint8 images; see `make_sampler`.

        Latents are decoded.

        Raises:
          UserError: if the weights of the autoencoder cannot be read or do not fit, or, from the
            function that is returned, if a sample is not finite.
        """
        run = self.reverse_process(mesh, seed, order)

        def drawn(params, indices: np.ndarray, condition, given: Given = NOTHING) -> np.ndarray:
            return hosts.to_host(run(params, *hosts.put((indices, condition, given), mesh)))

        if self.autoencoder is None:
            return drawn
        decode = make_decoder(self.pretrained, mesh)

        return lambda params, indices, *given: decode(drawn(params, indices, *given), indices)

    def to_images(self, mesh: Mesh) -> Callable[..., np.ndarray]:
        """Return x0 (B, ...) -> uint8 images, latents decoded. Raises as `sampler`."""
        if self.autoencoder is None:
            return lambda x0: np.asarray(process.to_uint8(x0, self.objective.input_scale))
        return make_decoder(self.pretrained, mesh)

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of a decoded sample. Raises as `sampler`."""
        if self.autoencoder is None:
            return self.sample_shape
        model = self.pretrained.model
        sides = (model.factor * side for side in self.sample_shape[:2])
        return (*sides, model.image_channels)

    @functools.cached_property
    def pretrained(self) -> Pretrained:
        """The autoencoder and its weights. Raises as `sampler`."""
        assert self.autoencoder is not None  # who asks has latents
        return load_decoder(self.autoencoder, self.sample_shape[-1], self.scaling)


def build(config: ConfigDict) -> Experiment:
    """Make everything that needs no data, file or device.

    Raises:
      UserError: for the first field that cannot work.
    """
    run = {name: make(SECTIONS[name], config[name], name) for name in _PLAIN}
    make(SECTIONS[""], {name: config[name] for name in ("seed", "ema_decay")}, "config")
    network = find_network(config.model.name)
    denoiser = build_denoiser(config.model)
    schedule = _build_schedule(config.objective.schedule, "objective.schedule")
    objective = make(Objective, {**config.objective, "schedule": schedule}, "objective")
    check_fit(config, network, denoiser, objective)
    sampling = build_sampling(config.sampling)
    check_guidance(sampling.guidance, denoiser, objective)
    geometry = denoiser.geometry
    sample_shape = example_shape = geometry.sample_shape
    if isinstance(geometry, Video):
        example_shape = (geometry.frames, *sample_shape[1:])
    autoencoder = run["autoencoder"]
    latents = autoencoder.name == "stable_diffusion"
    if latents:
        check_latents(objective, geometry)
        example_shape = (*sample_shape[:-1], 2 * sample_shape[-1])  # mean and log-variance
    return Experiment(
        network=network,
        denoiser=denoiser,
        objective=objective,
        sampling=sampling,
        optimizer=run["optimizer"],
        example_shape=example_shape,
        sample_shape=sample_shape,
        num_classes=denoiser.num_classes,
        autoencoder=autoencoder.weights if latents else None,
        scaling=Scaling(*autoencoder.scaling),  # () gives Stable Diffusion's
        ema_powers=tuple(map(gamma_of, run["posthoc_ema"].sigma_rels)),
    )


def build_denoiser(section: ConfigDict) -> Any:
    """Make the network of a `model` section.

    Raises:
      UserError: for an unknown network, geometry or field, or a value that cannot work.
    """
    fields = dict(section)
    denoiser = find_network(fields.pop("name")).denoiser
    geometry = dict(fields["geometry"])
    kind = geometry.pop("kind")
    check_choice("model.geometry.kind", kind, GEOMETRIES)
    fields["geometry"] = make(GEOMETRIES[kind], geometry, "model.geometry")
    if "dtype" in fields:
        check_choice("model.dtype", fields["dtype"], DTYPES)
        fields["dtype"] = jnp.dtype(fields["dtype"])
    return make(denoiser, fields, "model")


def build_sampling(section: ConfigDict) -> Sampling:
    """Make the sampling that a `sampling` section describes.

    Raises:
      UserError: for the first field that cannot work.
    """
    schedule = _build_schedule(section.schedule, "sampling.schedule")
    return make(Sampling, {**section, "schedule": schedule}, "sampling")


def build_source(config: ConfigDict, experiment: Experiment) -> FittedSource:
    """Open a config's data set, checked against its network.

    Raises:
      UserError: if the data cannot be opened, or are not what the network is for.
    """
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


def _build_schedule(section: ConfigDict, name: str) -> Schedule:
    return make_schedule(**dataclasses.asdict(make(ScheduleConfig, section, name)))
