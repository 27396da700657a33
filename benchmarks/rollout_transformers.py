"""transformers' `generate` in benchmarks/rollout.py: static batches, left-padded, until the longest ends."""

from __future__ import annotations

import os
import time

import rollout_job
import torch
import transformers


class Transformers:
    """Its defaults but for the sampling rule, without gradients; on a GPU where torch sees one that JAX may use.

    On a CPU with the number of threads that is fastest: for small products one can beat torch's default, one a core.
    """

    def __init__(self, job: rollout_job.Job):
        self.job = job
        on_gpu = torch.cuda.is_available() and os.environ.get("JAX_PLATFORMS") != "cpu"
        self.device = torch.device("cuda" if on_gpu else "cpu")
        self.model = transformers.AutoModelForCausalLM.from_pretrained(job.checkpoint, dtype=getattr(torch, job.dtype))
        self.model = self.model.to(self.device).eval()
        self.model.generation_config = transformers.GenerationConfig(pad_token_id=0, top_k=0, top_p=1.0)
        if self.device.type == "cpu":
            torch.set_num_threads(self._fastest_num_threads())

    def greedy(self, num_tokens: int) -> tuple[list[list[int]], list[list[float]]]:
        """As rollout_job.Sampler."""
        found, start = self._generate(self.job.prompts, num_tokens, do_sample=False, output_logits=True,
                                      return_dict_in_generate=True)
        tokens = found.sequences[:, start:]
        logprobs = torch.stack(found.logits, 1).float().log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
        return tokens.tolist(), logprobs.tolist()

    def draw(self, batch_size: int, seed: int) -> list[int]:
        """As rollout_job.Sampler."""
        torch.manual_seed(seed)
        lengths: list[int] = []
        stop_ids = self.job.stop_ids
        for prompts, limit in rollout_job.batches(self.job, batch_size):
            found, start = self._generate(prompts, limit, do_sample=True, temperature=1.0, top_k=0,
                                          eos_token_id=stop_ids or None)
            tokens = found[:, start:].cpu()
            stopped = torch.isin(tokens, torch.tensor(stop_ids, dtype=tokens.dtype))
            first = torch.where(stopped.any(1), stopped.int().argmax(1) + 1, tokens.shape[1])
            lengths += first.tolist()
        return lengths

    def facts(self) -> dict:
        """As rollout_job.Sampler."""
        on_gpu = self.device.type == "cuda"
        device = torch.cuda.get_device_name() if on_gpu else f"cpu, threads: {torch.get_num_threads()}"
        return {"versions": f"transformers {transformers.__version__}, torch {torch.__version__}", "device": device}

    def _fastest_num_threads(self) -> int:
        prompts, _ = rollout_job.batches(self.job, self.job.batch_sizes[0])[0]
        most = torch.get_num_threads()
        seconds = {}
        for count in sorted({1, max(1, most // 2), most}):
            torch.set_num_threads(count)
            self._generate(prompts, 2, do_sample=False)
            start = time.perf_counter()
            self._generate(prompts, 16, do_sample=False)
            seconds[count] = time.perf_counter() - start
        return min(seconds, key=seconds.get)

    def _generate(self, prompts: list[list[int]], limit: int, **options):
        longest = max(map(len, prompts))
        tokens = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with torch.inference_mode():
            found = self.model.generate(tokens.to(self.device), attention_mask=mask.to(self.device),
                                        max_new_tokens=limit, **options)
        return found, longest


if __name__ == "__main__":
    rollout_job.main(Transformers)
