"""The ground: words every other part shares. Imports nothing of ours."""
