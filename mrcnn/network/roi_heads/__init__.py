"""The second stage: which RoIs learn, and the heads of boxes, masks and keypoints."""
