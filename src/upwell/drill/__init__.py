"""The drill: Upwell killed at every point where it commits something, on the user's own machine.

``trials.py`` lists where, ``scratch.py`` runs a shop to do it to, ``account.py`` counts every row
afterwards, ``run.py`` goes through it all.
"""
