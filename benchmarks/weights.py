"""Speed and peak host memory of weights going in and out: import onto a mesh, export, and file-to-file conversion.

    python benchmarks/weights.py                       # a 4.3 GB checkpoint in 20 files, on 8 CPU devices, minutes
    python benchmarks/weights.py --num_layers=2        # 1.6 GB, to try it

Makes a checkpoint of Qwen2's layout with random bfloat16 weights in a temporary folder (four times its size on disk
at most), runs each job in a process of its own, compares the exported and converted files with the original byte for
byte, and deletes all. A CPU device's memory is the host's, so the peak of an import is counted beyond the parameters
that end on the devices; pages of the disk cache are nobody's. The bound is twice the largest tensor.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import ml_dtypes
import numpy as np
import safetensors.numpy
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("num_layers", 18, "Layers of 168 MB each; embedding and unembedding are 622 MB each.")
flags.DEFINE_list("jobs", ["import_bfloat16", "import_float32", "export", "convert"], "Which jobs to run, in order.")
flags.DEFINE_string("folder", "", "Where the temporary folder is made; empty: the system's place.")
flags.DEFINE_string("job", "", "For the benchmark itself: the one job that this process does.")

_SHAPE = dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"], vocab_size=151_936, hidden_size=2048,
              intermediate_size=12_288, num_attention_heads=16, num_key_value_heads=2, max_position_embeddings=32_768,
              rope_theta=1e6, rms_norm_eps=1e-6, tie_word_embeddings=False, hidden_act="silu", torch_dtype="bfloat16")
_LARGEST = 151_936 * 2048 * 2  # bytes of the embedding


def make_checkpoint(folder: pathlib.Path, num_layers: int) -> int:
    """Writes the checkpoint, one file for each layer and for each end; returns its bytes of weights."""
    d, f, kv = _SHAPE["hidden_size"], _SHAPE["intermediate_size"], _SHAPE["num_key_value_heads"] * 128
    layer = {"self_attn.q_proj.weight": (d, d), "self_attn.q_proj.bias": (d,), "self_attn.k_proj.weight": (kv, d),
             "self_attn.k_proj.bias": (kv,), "self_attn.v_proj.weight": (kv, d), "self_attn.v_proj.bias": (kv,),
             "self_attn.o_proj.weight": (d, d), "mlp.gate_proj.weight": (f, d), "mlp.up_proj.weight": (f, d),
             "mlp.down_proj.weight": (d, f), "input_layernorm.weight": (d,), "post_attention_layernorm.weight": (d,)}
    parts = [{"model.embed_tokens.weight": (_SHAPE["vocab_size"], d)}]
    parts += [{f"model.layers.{i}.{name}": shape for name, shape in layer.items()} for i in range(num_layers)]
    parts += [{"model.norm.weight": (d,), "lm_head.weight": (_SHAPE["vocab_size"], d)}]
    rng, weight_map, total = np.random.default_rng(0), {}, 0
    folder.mkdir()
    for number, part in enumerate(parts, 1):
        tensors = {}
        for name, shape in part.items():
            bits = rng.integers(0, 2**16, shape, dtype=np.uint16)
            bits &= 0xBFFF  # without the highest bit of the exponent: finite, below 2
            tensors[name] = bits.view(ml_dtypes.bfloat16)
            total += bits.nbytes
        file = f"model-{number:05}-of-{len(parts):05}.safetensors"
        safetensors.numpy.save_file(tensors, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps({**_SHAPE, "num_hidden_layers": num_layers}), encoding="utf-8")
    return total


def do(job: str, folder: pathlib.Path) -> dict:
    """Does one job in this process: {seconds, cpu, parameters (bytes on the devices), beyond (bytes of the peak)}."""
    import jax

    from libra_jax.model import hf
    from libra_jax.parallel import mesh as meshes
    from libra_jax.stages import convert

    source = folder / "source"
    mesh = meshes.make(meshes.MeshConfig(data=1, fsdp=4, tensor=2))
    jax.block_until_ready(jax.jit(lambda: np.ones(8))())  # the compiler's own memory is not the weights'
    if job == "convert":
        measure = _Measure()
        convert.run(convert.Config(checkpoint=str(source), max_shard_bytes=500_000_000), folder / "converted")
        return {**measure.done(), "parameters": 0}
    dtype = job.removeprefix("import_") if job.startswith("import_") else "bfloat16"
    measure = _Measure()
    config, params = hf.load(source, dtype=dtype, mesh=mesh)
    jax.block_until_ready(params)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    if job == "export":
        measure = _Measure()
        hf.save(folder / "exported", config, params, dtype=dtype, max_shard_bytes=500_000_000)
    done = measure.done()
    if job != "export":
        done["beyond"] -= size
    return {**done, "parameters": size}


class _Measure:
    """Seconds by the clock and of all cores, and the peak of resident memory beyond what there was at the start."""

    def __init__(self):
        pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
        self.before, self.start, self.cpu = _status("VmRSS"), time.perf_counter(), time.process_time()

    def done(self) -> dict:
        seconds, cpu = time.perf_counter() - self.start, time.process_time() - self.cpu
        return {"seconds": seconds, "cpu": cpu, "beyond": _status("VmHWM") - self.before}


def _status(name: str) -> int:
    """A size from this process's status, in bytes."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {name}; this benchmark needs Linux")


def differing(a: pathlib.Path, b: pathlib.Path) -> list[str]:
    """The names of tensors that two checkpoints do not share bit for bit; read by another library than ours."""
    maps = [json.loads((path / "model.safetensors.index.json").read_text())["weight_map"] for path in (a, b)]
    found = sorted(maps[0].keys() ^ maps[1].keys())
    for name in maps[0].keys() & maps[1].keys():
        views = []
        for path, names in zip((a, b), maps, strict=True):
            with safetensors.safe_open(path / names[name], framework="numpy") as file:
                views.append(file.get_tensor(name))
        if views[0].dtype != views[1].dtype or not np.array_equal(*(view.view(np.uint16) for view in views)):
            found.append(name)
    return found


def main(argv: list[str]) -> None:
    """Prints a line for each job; exits with 1 when a job is over the bound or a file differs."""
    if FLAGS.job:
        print(json.dumps(do(FLAGS.job, pathlib.Path(FLAGS.folder))))
        return
    failed = False
    with tempfile.TemporaryDirectory(dir=FLAGS.folder or None, prefix="libra_weights_") as temporary:
        folder = pathlib.Path(temporary)
        size = make_checkpoint(folder / "source", FLAGS.num_layers)
        files = len(list((folder / "source").glob("*.safetensors")))
        print(f"checkpoint: {size / 1e9:.2f} GB in {files} files; largest tensor {_LARGEST / 1e6:.0f} MB; bound "
              f"{2 * _LARGEST / 1e6:.0f} MB", flush=True)
        print(f"{'job':16} {'seconds':>8} {'GB/s':>6} {'CPU s':>6} {'parameters MB':>14} "
              f"{'peak beyond MB':>15} {'/ largest':>10}")
        for job in FLAGS.jobs:
            command = [sys.executable, argv[0], f"--job={job}", f"--folder={folder}"]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=_environment())
            found = json.loads(run.stdout.splitlines()[-1])
            good = found["beyond"] < 2 * _LARGEST
            print(f"{job:16} {found['seconds']:8.1f} {size / 1e9 / found['seconds']:6.2f} {found['cpu']:6.1f} "
                  f"{found['parameters'] / 1e6:14.0f} {found['beyond'] / 1e6:15.0f} "
                  f"{found['beyond'] / _LARGEST:10.2f}  {'PASS' if good else 'FAIL'}", flush=True)
            failed |= not good
            for made in (folder / "exported", folder / "converted" / "checkpoint"):
                if made.is_dir():
                    wrong = differing(folder / "source", made)
                    print(f"{'':16} {'same bytes as the source' if not wrong else f'FAIL: {wrong[0]} differs'}",
                          flush=True)
                    failed |= bool(wrong)
                    for file in made.glob("*.safetensors"):
                        file.unlink()
                    made.rename(folder / f"checked_{job}")
    sys.exit(int(failed))


def _environment() -> dict[str, str]:
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}


if __name__ == "__main__":
    app.run(main)
