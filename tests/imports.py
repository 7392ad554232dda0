"""What imports what, read from the source: nothing is run."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("configs", "diffusion_jax", "diffussm_jax", "launch", "rin_jax")


def _name(path: Path) -> str:
    """The module of a file below the root."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _statements(tree: ast.AST) -> Iterator[ast.stmt]:
    """Yield all statements that can run; what only a type checker sees is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        yield from _statements(node)


def import_graph() -> dict[str, set[str]]:
    """Return the modules of the project, each with those of the project that it imports.

    Imports inside functions count too: they only delay what a module depends on.
    """
    files = {_name(path): path for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    graph = {}
    for module, path in files.items():
        found = graph[module] = set()
        for node in _statements(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} & files.keys()
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:  # a name may be a module, or be defined in one
                    inner = f"{node.module}.{alias.name}"
                    found.add(inner if inner in files else node.module)
        found &= files.keys()
    return graph
