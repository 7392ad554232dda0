"""What operators read, of a clock that the test turns."""

import pytest

from diffusion_jax.errors import UserError
from diffusion_jax.training import speed
from launch.train import parse_profile_steps


def test_means_between_two_readings(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now[0])
    meter = speed.Speedometer(batch_size=16, flops=8e12, peak=2e12)  # on eight devices
    assert meter.read() == {}
    for waited, saved in ((0.25, 0.0), (0.75, 0.5)):
        now[0] += 2 - waited - saved
        with meter.waiting("batch"):
            now[0] += waited
        with meter.waiting("save"):
            now[0] += saved
    measured = meter.read()
    assert measured.pop("host_peak_bytes") > 1e7
    assert measured == {
        "step_seconds": 2,
        "images_per_second": 8,
        "images_per_second_per_chip": 1,
        "tflops_per_second_per_chip": 0.5,
        "input_wait_fraction": 0.25,
        "checkpoint_seconds": 0.5,
        "mfu": 0.25,
    }
    assert meter.read() == {}


def test_steps_to_trace():
    assert parse_profile_steps(["10", "12"]) == (10, 12)
    for wrong in (["10"], ["0", "3"], ["4", "3"], ["a", "b"]):
        with pytest.raises(UserError, match="give FIRST,LAST"):
            parse_profile_steps(wrong)
