"""Imports point down: commands, networks, what they share; and nothing goes round in a circle."""

import graphlib

import pytest
from imports import ROOT, import_graph

GRAPH = import_graph()
COMMANDS = {f"launch.{path.stem}" for path in (ROOT / "launch").glob("[a-z]*.py")}


@pytest.mark.parametrize(
    "package, forbidden",
    [
        ("rin_jax", ("diffussm_jax", "diffusion_jax.training", "launch", "configs")),
        ("diffussm_jax", ("rin_jax", "diffusion_jax.training", "launch", "configs")),
        ("diffusion_jax", ("rin_jax", "diffussm_jax", "launch", "configs")),
        ("configs", ("launch",)),
    ],
)
def test_layers_import_downwards_only(package, forbidden):
    upwards = {
        module: found
        for module, imported in GRAPH.items()
        if module.partition(".")[0] == package
        and (
            found := {
                name
                for name in imported
                if f"{name}.".startswith(tuple(f"{each}." for each in forbidden))
            }
        )
    }
    assert not upwards


def test_no_imports_go_in_a_circle():
    graphlib.TopologicalSorter(GRAPH).prepare()  # raises CycleError with the circle


def test_commands_are_short_and_imported_by_nothing():
    assert not {m: found for m, imported in GRAPH.items() if (found := imported & COMMANDS)}
    lines = {
        name: len((ROOT / f"{name.replace('.', '/')}.py").read_text().splitlines())
        for name in COMMANDS
    }
    assert max(lines.values()) <= 120, {name: n for name, n in lines.items() if n > 120}
