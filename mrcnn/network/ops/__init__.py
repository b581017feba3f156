"""Operations on tensors: RoIAlign and its relatives, suppression, the seam of the backends."""
