"""The plan run on DuckDB: building models, keeping them fresh, proving them."""

from upwell.transform.refresh.build import build, drop
from upwell.transform.refresh.prove import Proof, prove
from upwell.transform.refresh.refresher import ModelFailedError, Refresher

__all__ = ["ModelFailedError", "Proof", "Refresher", "build", "drop", "prove"]
