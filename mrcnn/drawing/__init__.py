"""Pictures of objects, drawn with NumPy and Pillow; no window and no pyplot is needed."""
