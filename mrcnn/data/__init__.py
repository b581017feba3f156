"""Images and objects, from annotation files to padded batches."""
