"""Golden numbers: what a small shop's dashboard must show, computed independently."""
