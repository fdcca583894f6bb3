"""The project folder as frozen values: read, validate, compare. Pure but for reading files."""
