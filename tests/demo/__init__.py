"""The sample shop, tested on real servers."""
