"""benchmarks/adapters.py prints what both sides hold."""

import importlib.util
import pathlib

from libra_jax.model import lora


def test_the_table_of_a_tiny_shape(capsys):
    path = pathlib.Path(__file__).parents[2] / "benchmarks/adapters.py"
    spec = importlib.util.spec_from_file_location("adapters_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(["--model_size=32", "--num_layers=1", "--rank=2", "--rows=2", "--length=32", "--repeats=1"])
    *_, every, adapters = [[cell.strip() for cell in line.split("|")[1:-1]]
                           for line in capsys.readouterr().out.splitlines()]
    model = module.shape(module.argparse.Namespace(model_size=32, num_layers=1))
    number = lora.num_parameters(model, lora.LoraConfig(rank=2))
    assert every[0] == "all" and adapters[:2] == ["rank 2", f"{number:,}"]
    assert float(adapters[2]) < float(every[2]) and all(float(cell) > 0 for cell in (*every[2:], *adapters[2:]))
