"""Region proposal network *(Faster R-CNN, Ren et al. 2015, section 3)*."""
