"""Reading and writing weights files by layer name."""
