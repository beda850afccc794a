"""Using a model: sampling, batched generation, speculative decoding."""
