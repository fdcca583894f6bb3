"""Live dashboards: a follower of the change feed that answers from memory.

The life of one change here: ``follower`` receives it, ``replica`` applies it, ``live`` notices and
computes each watched view once (``board`` over ``facts``), and every viewer of that view gets it.
"""
