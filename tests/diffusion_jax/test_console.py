"""What commands print of their progress: bars where somebody watches, lines in a log."""

import contextlib
import importlib.util
import os
import pty
import re
import sys
import termios
import types

import pytest

from diffusion_jax import console


def count(total: int, done: int = 0) -> None:
    with console.progress(total, "images", initial=done) as bar:
        for _ in range(done, total):
            bar.update()
    console.say("that was all")


def test_a_log_has_lines(capfd, monkeypatch):
    monkeypatch.setattr(console, "LINE_EVERY", 1e-9)
    count(2_000, done=1_997)
    printed, lines = capfd.readouterr()
    assert printed == "that was all\n"
    pattern = r"1,998 of 2,000 images, [\d,.]+ images/s, \d\d:\d\d left"
    first, _, last = lines.splitlines()
    assert re.fullmatch(pattern, first)
    assert last.startswith("2,000 of 2,000 images, ")
    assert last.endswith(", 00:00 left")


def test_what_is_done_soon_has_none(capfd):
    count(2_000)
    assert capfd.readouterr() == ("that was all\n", "")


def test_a_rate_is_read_at_a_glance():
    assert console.pace(1234.5, "images", 3700) == "1,234 images/s, 1:01:40 left"
    assert console.pace(0.012345, "images", 5) == "0.0123 images/s, 00:05 left"


def test_a_terminal_has_a_bar_that_lines_do_not_cut(monkeypatch):
    reading, writing = pty.openpty()
    termios.tcsetwinsize(writing, (24, 80))
    with os.fdopen(writing, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        with console.progress(2, "images") as bar:
            bar.update()
            console.say("half of it")
            bar.update()
    shown = b""
    with contextlib.suppress(OSError), os.fdopen(reading, "rb", buffering=0) as screen:
        while part := screen.read(2**12):  # Linux ends it with an error
            shown += part
    shown = shown.decode()
    assert re.search(r"\r +\rhalf of it\r\n\r *50%", shown), shown
    assert "2/2" in shown


@pytest.mark.parametrize("lines", [True, False])
def test_a_notebook_with_widgets_has_a_bar_of_its_own(monkeypatch, lines):
    widgets = types.ModuleType("ipywidgets")
    widgets.__spec__ = importlib.util.spec_from_loader("ipywidgets", loader=None)
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    monkeypatch.setitem(sys.modules, "ipykernel", console)
    monkeypatch.setattr(console, "_notebook_bar", lambda: lambda **how: how)
    assert console.shows_bars()
    assert console.progress(2, "images", lines=lines)["disable"] is False


def test_a_notebook_without_widgets_has_lines_as_a_log(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    monkeypatch.setitem(sys.modules, "ipykernel", console)
    count(2_000)
    assert capfd.readouterr() == ("that was all\n", "")
