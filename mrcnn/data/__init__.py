"""Images and objects, from the files people have to padded batches."""
