"""Reading a compiled program: worked by hand on a small text, and on programs compiled for the CPU."""

import jax
import jax.numpy as jnp

from libra_jax.parallel import hlo
from libra_jax.parallel import mesh as meshes

TEXT = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%all-reduce-scatter.1 (p: f32[64]) -> f32[8] {
  %all-reduce.9 = f32[64]{0} all-reduce(%p), to_apply=%add
  ROOT %slice = f32[8]{0} dynamic-slice(%all-reduce.9, %i), dynamic_slice_sizes={8}
}

%ring (w: (u32[], bf16[4,8])) -> (u32[], bf16[4,8]) {
  %permute = (bf16[4,8]{1,0}, bf16[4,8]{1,0}, u32[], u32[]) collective-permute-start(%x), source_target_pairs={{0,1}}
}

%ring_condition (w: (u32[], bf16[4,8])) -> pred[] {
  %bound = u32[]{:T(128)} constant(2)
}

%layer (c: (s32[], bf16[4,8])) -> (s32[], bf16[4,8]) {
  %all-gather.1 = bf16[32,8]{1,0:T(8,128)(2,1)} all-gather(%x), dimensions={0}
  %kernel = f32[8]{0} custom-call(%x), custom_call_target="tpu_custom_call", frontend_attributes={
"metadata":"{}"
}}, metadata={op_name="kernel"}
  %inner = (u32[], bf16[4,8]) while(%t), condition=%ring_condition, body=%ring
  %fusion.1 = f32[8]{0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.1
}

%layer_condition (c: (s32[], bf16[4,8])) -> pred[] {
  %bound.1 = s32[] constant(3)
}

ENTRY %main (p: bf16[4,8]) -> f32[] {
  %layers = (s32[], bf16[4,8]) while(%t), condition=%layer_condition, body=%layer
  %all-reduce.1 = (f32[], f32[10]{0}) all-reduce(%a, %b), to_apply=%add
}
"""


def test_collectives_are_counted_by_kind_loop_and_rounds():
    found = {(each.kind, each.in_layers): each for each in hlo.collectives(TEXT, num_layers=3)}
    assert {key: (each.runs, each.bytes, each.largest) for key, each in found.items()} == {
        ("all-gather", True): (3, 3 * 32 * 8 * 2, 32 * 8 * 2),
        ("collective-permute", True): (6, 6 * 4 * 8 * 2, 4 * 8 * 2),
        ("reduce-scatter", True): (3, 3 * 8 * 4, 8 * 4),
        ("all-reduce", False): (1, 44, 44),
    }
    assert all(each.in_layers == (each.kind != "all-reduce") for each in hlo.collectives(TEXT, num_layers=4))  # peeled
    assert not any(each.in_layers for each in hlo.collectives(TEXT, num_layers=5))


def test_a_real_program_gathers_in_its_loop_and_aliases_what_it_was_given():
    mesh = meshes.make(meshes.MeshConfig(fsdp=8))
    spread = jax.NamedSharding(mesh, jax.P(None, "fsdp"))
    weights = jax.ShapeDtypeStruct((5, 64, 64), jnp.float32, sharding=spread)
    x = jax.ShapeDtypeStruct((8, 64), jnp.float32, sharding=jax.NamedSharding(mesh, jax.P("fsdp")))

    def layers(x, weights):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    compiled = jax.jit(layers, donate_argnums=0).lower(x, weights).compile()
    found = hlo.collectives(compiled.as_text(), num_layers=5)
    assert [(each.kind, each.in_layers, each.runs) for each in found] == [("all-gather", True, 5)]
    assert found[0].bytes == 5 * found[0].largest == 5 * 64 * 64 * 4
    memory = hlo.memory(compiled)
    assert memory.arguments == 64 * 4 + 5 * 64 * 64 * 4 // 8 and memory.aliased == memory.results == 64 * 4
    assert memory.total == memory.arguments + memory.temporaries + memory.code
