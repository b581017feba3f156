"""The functional model: one file per stage, composed by `network`."""
