"""A user's SQL, run where it can reach nothing but the tables it was given."""
