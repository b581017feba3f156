"""Training: the model passed to `fit`, its optimizer, callbacks and devices."""
