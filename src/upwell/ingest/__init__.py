"""From a source's changes to its change log and current tables."""
