"""Layers shared by several parts of the network."""
