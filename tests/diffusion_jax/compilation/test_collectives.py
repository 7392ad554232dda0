"""What a compiled program sends is read in its text, loops counted."""

import jax
import jax.numpy as jnp
import pytest

from diffusion_jax.compilation.collectives import collectives
from diffusion_jax.parallel.sharding import make_mesh

HLO = """\
HloModule step

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%below (state: (s32[], f32[8])) -> pred[] {
  %end = s32[]{:T(128)} constant(6)
  ROOT %less = pred[] compare(%counter, %end), direction=LT
}

%layer (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %ag = bf16[16,8]{1,0:T(8,128)(2,1)} all-gather(%part), replica_groups=[2,4]<=[8], dimensions={0}
  %inner = (s32[], f32[8]) while(%t), condition=%below, body=%twice
}

%twice (state: (s32[], f32[8])) -> (s32[], f32[8]) {
  %rs = f32[8]{0} reduce-scatter(%x), replica_groups={{0,1},{2,3}}, to_apply=%add
}

ENTRY %main (p: f32[8]) -> f32[8] {
  %all = (f32[100]{0}, f32[4]{0}) all-reduce(%a, %b), replica_groups={}, to_apply=%add
  %start = (f32[2]{0}, f32[16]{0}) all-gather-start(%p), replica_groups={{0,1,2,3,4,5,6,7}}
  %done = f32[16]{0} all-gather-done(%start)
  %sent = (f32[5]{0}, f32[5]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%p), \
source_target_pairs={{0,1},{1,0}}
  %loop = (s32[], f32[8]) while(%t), condition=%below, body=%layer, \
backend_config={"known_trip_count":{"n":"3"}}
}
"""


def test_sizes_groups_and_loops():
    found = [(c.name, c.times, c.size, c.group, c.sent) for c in collectives(HLO, 8)]
    assert found == [
        ("all-reduce", 1, 4 * 104, 8, 2 * 7 / 8 * 4 * 104),
        ("all-gather", 1, 4 * 16, 8, 7 / 8 * 4 * 16),
        ("collective-permute", 1, 4 * 5, 8, 4 * 5),
        ("all-gather", 3, 2 * 16 * 8, 4, 3 / 4 * 2 * 16 * 8),
        ("reduce-scatter", 18, 4 * 8, 2, 4 * 8),
    ]


@pytest.mark.parametrize("length", [1, 5])
def test_of_a_scan_that_xla_compiled(length):
    mesh = make_mesh()
    spec = jax.P("data")

    def total(x):
        def body(carry, _):
            return jax.lax.psum(jnp.sin(carry), "data") / 8 + x, None

        return jax.lax.scan(body, x, length=length)[0]

    mapped = jax.shard_map(total, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    hlo = jax.jit(mapped).lower(jnp.ones((8 * 32,))).compile().as_text()
    found = list(collectives(hlo, 8))
    assert {(c.name, c.size, c.group) for c in found} == {("all-reduce", 4 * 32, 8)}
    assert sum(c.times for c in found) == length
