"""The functional model: one file a stage, composed by `network`."""
