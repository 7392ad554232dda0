"""Several processes of one run: who reads which part of a batch, and who writes.

Every process runs the same program on its own devices of one mesh. The result does not depend on
their number: a part of a batch is known by its place in it, not by its process.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from diffusion_jax.errors import UserError
from diffusion_jax.parallel.sharding import Mesh, by_example


def is_main() -> bool:
    """Return whether this is the process that writes files for all of them."""
    return jax.process_index() == 0


def wait_for_all(what: str) -> None:
    """Barrier across all processes; `what` names it in errors."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


def main_decides(decide: Callable[[], bool]) -> bool:
    """Return on every process what `decide` returns on the main one, where alone it is called."""
    decision = np.array(is_main() and decide())
    if jax.process_count() > 1:
        decision = multihost_utils.broadcast_one_to_all(decision)
    return bool(decision)


@contextlib.contextmanager
def held_by_main(lock: contextlib.AbstractContextManager) -> Iterator[None]:
    """Hold a lock of `diffusion_jax.storage.locks`, taken by the main process for the whole run.

    Raises:
      UserError: on every process, if the main one is refused it.
    """
    with contextlib.ExitStack() as stack:
        refusal = None
        if is_main():
            try:
                stack.enter_context(lock)
            except UserError as error:
                refusal = error
        refused = np.array(refusal is not None)
        if jax.process_count() > 1:
            refused = multihost_utils.process_allgather(refused).any()
        if refused:
            raise refusal or UserError("the main process of this run cannot write: see its error")
        yield


def parts_of(mesh: Mesh) -> tuple[int, tuple[int, ...]]:
    """Return (number of equal parts of a batch, those that devices of this process hold)."""
    rows = mesh.devices.reshape(-1, mesh.shape["tensor"])
    mine = jax.process_index()
    owned = [i for i, row in enumerate(rows) if mine in {device.process_index for device in row}]
    return len(rows), tuple(owned)


def put_parts(batch: Any, mesh: Mesh) -> Any:
    """Send a batch of which this process has the parts of `parts_of`, in their order.

    Args:
      batch: a tree of arrays (rows of these parts, ...).

    Returns:
      The same tree of global arrays (rows of all parts, ...), split by example.
    """
    if jax.process_count() == 1:
        return jax.device_put(batch, by_example(mesh))
    count, owned = parts_of(mesh)

    def put(local: np.ndarray) -> jax.Array:
        rows = len(local) // len(owned)

        def part(index: Any) -> np.ndarray:
            place = owned.index((index[0].start or 0) // rows)
            return local[place * rows : (place + 1) * rows]

        shape = (count * rows, *local.shape[1:])
        return jax.make_array_from_callback(shape, by_example(mesh), part)

    return jax.tree.map(put, batch)


def put(batch: Any, mesh: Mesh) -> Any:
    """Send a batch that every process has whole, split by example."""
    if jax.process_count() == 1:
        return jax.device_put(batch, by_example(mesh))
    return jax.tree.map(
        lambda whole: jax.make_array_from_callback(
            whole.shape, by_example(mesh), lambda index: whole[index]
        ),
        batch,
    )


def to_host(tree: Any) -> Any:
    """Return a tree of global arrays as NumPy arrays, whole on every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


def in_batches(
    function: Callable[[jax.Array], Any], rows: np.ndarray, size: int, mesh: Mesh
) -> Any:
    """Apply `function` to `size` rows at a time, the last batch filled up.

    Args:
      function: a global array (size, ...), split by example -> a tree of arrays like it.
      rows: (N, ...), N >= 1, whole on every process.

    Returns:
      The same tree of NumPy arrays (N, ...), whole on every process.
    """
    parts = []
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        filled = np.resize(part, (size, *part.shape[1:]))
        parts.append(to_host(function(put(filled, mesh))))
    return jax.tree.map(lambda *results: np.concatenate(results)[: len(rows)], *parts)
