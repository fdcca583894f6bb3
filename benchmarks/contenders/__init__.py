"""Systems that keep the same two models fresh, each in a process of its own, over the same batches.

Those of others run in an environment of their own and import nothing of Upwell.
"""
