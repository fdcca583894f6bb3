"""What may be stored of a source: pure decisions about columns and rows."""
