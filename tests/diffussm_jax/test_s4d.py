"""Kernels and convolutions agree with the references, and with the recurrence that defines them."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden import load_diffussm as load
from golden import relative_error

from diffusion_jax.errors import UserError
from diffussm_jax.convolution import convolve, convolve_chunked, convolve_fft
from diffussm_jax.s4d import Modes, discretise, kernel, start_state_matrix, zero_order_hold

DTYPES = [pytest.param(jnp.float32, id="float32"), pytest.param(jnp.float64, id="float64")]


def precision(dtype):
    return jax.enable_x64(True) if dtype == jnp.float64 else contextlib.nullcontext()


def each_case(arrays):
    """Yields (case, getter of its arrays)."""
    for case in sorted({name.split("/")[0] for name in arrays}):
        yield case, lambda name, dtype, case=case: jnp.asarray(arrays[f"{case}/{name}"], dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_and_layer_of_the_reference(dtype):
    tolerance = 1e-5 if dtype == jnp.float32 else 1e-12
    with precision(dtype):
        for case, get in each_case(load("s4d.npz")):
            names = ("log_dt", "log_A_real", "A_imag", "C")
            modes = discretise(*(get(f"param/kernel.{name}", dtype) for name in names))
            u = get("u", dtype)
            k = kernel(modes, u.shape[-1])
            assert relative_error(k, get("K64", None)) < tolerance, case
            y = convolve_fft(u, k, k)[0] + get("param/D", dtype)[None, :, None] * u
            assert relative_error(y, get("y_pre64", None)) < tolerance, case


@pytest.mark.parametrize("dtype", DTYPES)
def test_bidirectional_convolution_of_the_reference(dtype):
    """There the backward part starts at lag 1: it is ours, one step later."""
    with precision(dtype):
        for case, get in each_case(load("s4_bidirectional.npz")):
            k, u, skip = get("k", dtype), get("u", dtype), get("D", dtype)[..., None]
            forward, backward = convolve_fft(u, *k)
            backward = jnp.pad(backward[..., 1:], ((0, 0), (0, 0), (0, 1)))
            error = relative_error(forward + backward + skip * u, get("direct64", None))
            assert error < (1e-5 if dtype == jnp.float32 else 1e-12), case


def discretise_shared(log_dt, a_re, a_im, c) -> Modes:
    """BiGS' form: one kernel for all channels from N modes, not pairs, Re A clipped at -1e-4."""
    a = jax.lax.complex(jnp.minimum(a_re, -1e-4), a_im)
    return zero_order_hold(log_dt, a[None], c[None])


def test_shared_kernels_of_bigs():
    for case, get in each_case(load("bigs_layer.npz")):
        for direction, golden in (("fs4", "K_fwd32"), ("bs4", "K_bwd32")):
            names = ("log_step", "A_re", "A_im", "C")
            modes = discretise_shared(*(get(f"param/{direction}/{n}", jnp.float32) for n in names))
            expected = get(golden, jnp.float32)
            assert relative_error(kernel(modes, len(expected))[0], expected) < 1e-5, case


def random_parameters(dtype, channels=3, pairs=4):
    """(log_dt, log_decay, frequency, c) of both directions, in the ranges of a new network."""
    rng = np.random.default_rng(0)
    draws = [
        np.log(10) * rng.uniform(-3, -1, (2, channels)),
        np.log(0.5) + 0.3 * rng.normal(size=(2, channels, pairs)),
        np.pi * np.arange(pairs) + rng.normal(size=(2, channels, pairs)),
        rng.normal(size=(2, channels, pairs, 2)),
    ]
    return [jnp.asarray(draw, dtype) for draw in draws]


def convolve_recurrent(u, forward, backward, skip):
    """By the recurrence x = exp(rate) x + u, y = Re(weight x) + D u: slow, the others' oracle."""
    outputs = []
    for modes, skip_H, reverse in zip((forward, backward), skip, (False, True), strict=True):
        decay = jnp.exp(jax.lax.complex(modes.rate_re, modes.rate_im))[None]
        weight = jax.lax.complex(modes.weight_re, modes.weight_im)[None]

        def step(state, u_BH, decay=decay, weight=weight):
            state = decay * state + u_BH[..., None].astype(state.dtype)
            return state, (weight * state).real.sum(-1)

        zero = jnp.zeros((*u.shape[:2], modes.rate_re.shape[-1]), decay.dtype)
        _, y_LBH = jax.lax.scan(step, zero, jnp.moveaxis(u, 2, 0), reverse=reverse)
        outputs.append(jnp.moveaxis(y_LBH, 0, 2) + skip_H[None, :, None] * u)
    return tuple(outputs)


def by_fft(u, forward, backward, skip):
    return convolve(u, forward, backward, skip, "fft")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("length", [1, 2, 7, 64, 100, 1000, 1024, 4096])
def test_the_three_forms_agree_with_gradients(length, dtype):
    """Tolerances: values 1e-5 and 1e-10, gradients 1e-4 and 1e-10, of the largest value."""
    with precision(dtype):
        parameters = random_parameters(dtype)
        rng = np.random.default_rng(1)
        u, weight, skip = (
            jnp.asarray(rng.normal(size=s), dtype) for s in (*((2, 3, length),) * 2, (2, 3))
        )

        def run(convolve):
            def loss(u, parameters, skip):
                modes = (discretise(*(p[direction] for p in parameters)) for direction in (0, 1))
                forward, backward = convolve(u, *modes, skip)
                return jnp.sum(weight * (forward - 2 * backward)), (forward, backward)

            gradient = jax.jit(jax.grad(loss, argnums=(0, 1, 2), has_aux=True))
            gradient, values = gradient(u, parameters, skip)
            return values, jax.tree.leaves(gradient)

        values, gradients = run(convolve_recurrent)
        exact = dtype == jnp.float64
        for convolve in (by_fft, convolve_chunked):
            ours, ours_gradients = run(convolve)
            for mine, oracle in zip(ours, values, strict=True):
                assert relative_error(mine, oracle) < (1e-10 if exact else 1e-5)
            for mine, oracle in zip(ours_gradients, gradients, strict=True):
                assert relative_error(mine, oracle) < (1e-10 if exact else 1e-4)


def test_each_direction_may_have_its_own_input():
    parameters = random_parameters(jnp.float32)
    modes = [discretise(*(p[direction] for p in parameters)) for direction in (0, 1)]
    u, v = jax.random.normal(jax.random.key(0), (2, 2, 3, 200))
    skip = jax.random.normal(jax.random.key(1), (2, 3))
    for form in ("fft", "chunked"):
        forward, backward = convolve((u, v), *modes, skip, form)
        np.testing.assert_allclose(forward, convolve(u, *modes, skip, form)[0], atol=1e-6)
        np.testing.assert_allclose(backward, convolve(v, *modes, skip, form)[1], atol=1e-6)


@pytest.mark.parametrize("extreme", [-60.0, 60.0])
def test_kernel_and_gradients_are_finite_at_the_extremes(extreme):
    parameters = [p[0] for p in random_parameters(jnp.float32)]
    for i in (0, 1):
        pushed = [p.at[0].set(extreme) if j == i else p for j, p in enumerate(parameters)]
        k, pull = jax.vjp(lambda *p: kernel(discretise(*p), 1024), *pushed)
        for value in (k, *pull(jnp.ones_like(k))):
            assert bool(jnp.isfinite(value).all())


@pytest.mark.parametrize("length, forward_mib, both_mib", [(1024, 60, 160), (4096, 150, 400)])
def test_memory_of_the_kernel(length, forward_mib, both_mib):
    """2304 channel-directions, N = 64: the naive form's Vandermonde takes 576 MiB and 2.3 GiB."""

    def shape(*sizes):
        return jax.ShapeDtypeStruct((2304, *sizes), jnp.float32)

    parameters = (shape(), shape(32), shape(32), shape(32, 2))

    def make(parameters):
        return kernel(discretise(*parameters), length)

    def both(parameters, cotangent):
        k, pull = jax.vjp(make, parameters)
        return k, pull(cotangent)

    def mib(function, *arguments):
        memory = jax.jit(function).lower(*arguments).compile().memory_analysis()
        return (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 2**20

    assert mib(make, parameters) < forward_mib
    assert mib(both, parameters, shape(length)) < both_mib


def test_starts():
    np.testing.assert_allclose(start_state_matrix("lin", 6).imag, np.pi * np.arange(3))
    np.testing.assert_allclose(start_state_matrix("inv", 4).imag, 4 / np.pi * np.array([3, 1 / 3]))
    legs = start_state_matrix("legs", 8)
    assert legs.shape == (4,)
    assert (legs.real == -0.5).all()
    assert (np.diff(legs.imag) > 0).all()


def test_what_cannot_work_is_refused():
    with pytest.raises(UserError, match="state_size is 7: conjugate pairs need an even number"):
        start_state_matrix("lin", 7)
    with pytest.raises(UserError, match="start is 'line': did you mean lin"):
        start_state_matrix("line", 8)
