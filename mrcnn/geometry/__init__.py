"""Boxes, anchors, masks and images as array maths: no settings, no framework state."""
