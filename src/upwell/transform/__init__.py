"""Models: SELECTs whose results are kept equal to a full recompute, version by version.

``plan/`` turns the text of the models into nodes (pure); ``refresh/`` runs them on DuckDB;
``explain.py`` says how a model refreshes and why.
"""
