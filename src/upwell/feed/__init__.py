"""The change feed: every version's deltas to every follower, in order, once."""
