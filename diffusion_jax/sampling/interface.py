"""The interface of a sampler: an algorithm that leads x from noise to data, step by step.

`diffusion_jax.sampling.scan.generate` runs every sampler in the same way,

    state = sampler.init(x)                                           # x ~ N(0, I)
    for visit in visits:                                              # a jax.lax.scan
        state, x, found = sampler.step(state, x, carry, visit, estimate)
        carry = found.carry
    sample = sampler.finish(x, found.x0)

and does what all of them share: it chooses the noise levels, runs the network, guides and clips its
output, hands on the network's carry, edits x, and watches for numbers that are not finite.
"""

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from diffusion_jax.denoiser import NoiseLevel
from diffusion_jax.diffusion.process import Transition


class Estimate(NamedTuple):
    """What a pass of the network says of x_t.

    Attributes:
      x0: (B, ...) the estimate of x_0, clipped if the objective clips it.
      eps: (B, ...) the noise that goes with it: x_t = alpha x0 + sigma eps.
      variance: (B, ...) the learned-variance channels; no channels where there are none.
      carry: the network's carry for the next pass.
      is_sound: (B,) bool, whether the network's output was finite and of a sensible size.
    """

    x0: jax.Array
    eps: jax.Array
    variance: jax.Array
    carry: Any
    is_sound: jax.Array


# (x_t, its noise level as scalars, the network's carry) -> Estimate
Estimator = Callable[[jax.Array, NoiseLevel, Any], Estimate]


class Visit(NamedTuple):
    """One step of the reverse process, as a sampler is given it.

    Attributes:
      step: the noise levels before and after it, scalars.
      follows: bool scalar, whether it starts where the step taken before it ended. False in the
        first step, and where resampling goes back up; multistep samplers start anew there.
      is_last: bool scalar, whether no step comes after it, in whatever order they are taken.
      noise: returns standard normal noise (B, ...) of this step; the same at every call.
    """

    step: Transition
    follows: jax.Array
    is_last: jax.Array
    noise: Callable[[], jax.Array]


class Sampler(abc.ABC):
    """An algorithm for the reverse process.

    Attributes:
      adds_noise: whether steps draw noise; if not, the initial noise alone decides the sample.
      needs_variance: whether it needs a network with learned-variance channels.
    """

    adds_noise: bool = False
    needs_variance: bool = False

    def passes(self, steps: int) -> int:
        """Return how many passes of the network, guidance aside, so many steps take."""
        return steps

    def spacing(self, is_discrete: bool) -> str:
        """Return what the spacing 'auto' stands for on a discrete or a continuous schedule."""
        return "even"

    def init(self, x: jax.Array) -> Any:
        """Return the state before the first step: any pytree of arrays, here nothing."""
        return ()

    @abc.abstractmethod
    def step(
        self, state: Any, x: jax.Array, carry: Any, visit: Visit, estimate: Estimator
    ) -> tuple[Any, jax.Array, Estimate]:
        """Take one step.

        Args:
          state: what `init`, or the step before, returned.
          x: (B, ...) at the noise level `visit.step.now`.
          carry: the network's carry, to be given to `estimate`.
          visit: the step to take.
          estimate: runs the network.

        Returns:
          (state for the next step, x at the noise level `visit.step.next`, the last estimate).
        """

    def finish(self, x: jax.Array, x0: jax.Array) -> jax.Array:
        """Return the sample, from the last x and the last estimate of x_0.

        It is the estimate: x still has whatever noise the last level leaves, as in RIN's code.
        """
        return x0
