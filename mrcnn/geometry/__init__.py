"""Boxes, anchors, masks and images as array operations: no settings, no framework state."""
