"""Benchmarks: figures beside a peer in the same run. Never asserted on."""
