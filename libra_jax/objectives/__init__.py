"""SFT, GRPO and DPO as pure functions: arrays in, (loss, metrics) out."""
