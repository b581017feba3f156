"""The second stage: RoI sampling, and the box, mask and keypoint heads."""
