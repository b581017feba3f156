"""Training: the model that `fit` runs, its optimizer, callbacks and devices."""
