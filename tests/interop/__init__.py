"""Other programs read the lake without us, and find what ``upwell query`` says."""
