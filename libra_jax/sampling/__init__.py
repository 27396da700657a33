"""Prefill and decode with a cache in one jitted loop, token filters, rejection of judgements."""
