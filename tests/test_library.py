"""What the packages offer to others' programs: names, their words and their types."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import diffusion_jax
import diffussm_jax
import rin_jax

PACKAGES = (rin_jax, diffussm_jax, diffusion_jax)


def public(package) -> Iterator[tuple[str, object]]:
    """Classes, functions and methods of a package, by where they are written; no re-exports."""
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value
            elif inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
                for method, function in vars(value).items():
                    for inside in ("fget", "func", "__func__"):  # of what decorators made of it
                        function = getattr(function, inside, function)
                    if inspect.isfunction(function) and function.__qualname__ == f"{name}.{method}":
                        yield f"{module.__name__}.{name}.{method}", function


def has_hidden_name(where: str) -> bool:
    name = where.rpartition(".")[2]
    return name.startswith("_") or name == "setup"  # Flax's


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_everything_public_has_a_docstring_and_annotations(package):
    for where, value in public(package):
        hidden = has_hidden_name(where)
        assert hidden or value.__doc__, where
        if inspect.isfunction(value) and (not hidden or where.endswith(".__call__")):
            signature = inspect.signature(value)
            typed = [p for name, p in signature.parameters.items() if name not in ("self", "cls")]
            bare = [p.name for p in typed if p.annotation is p.empty]
            assert not bare and signature.return_annotation is not signature.empty, (where, bare)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_exported_names_are_there_and_typed(package):
    for name in package.__all__:
        assert inspect.getdoc(getattr(package, name)), name
    assert (Path(package.__file__).parent / "py.typed").is_file()
    assert set(package.__all__) <= set(dir(package))


def test_a_type_checker_sees_what_python_sees():
    """The imports for one, and the names by which the other finds them, are written apart."""
    tree = ast.parse(Path(diffusion_jax.__file__).read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.startswith("diffusion_jax.")
        for alias in node.names
    }
    found = {name: getattr(diffusion_jax, name).__module__ for name in diffusion_jax.__all__}
    assert found == seen


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'diffusion_jax' has no attribute 'RIN'"):
        _ = diffusion_jax.RIN
