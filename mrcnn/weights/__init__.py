"""Checkpoint files into and out of the network, by layer name."""
