"""Layers that several parts of the network are made of."""
