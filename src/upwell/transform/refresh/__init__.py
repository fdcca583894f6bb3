"""The plan run on DuckDB: building models, keeping them fresh, proving them."""

from upwell.transform.refresh.build import build, drop
from upwell.transform.refresh.prove import Proof, prove
from upwell.transform.refresh.refresher import MODEL_FAILURES, ModelFailedError, Refresher

__all__ = [
    "MODEL_FAILURES",
    "ModelFailedError",
    "Proof",
    "Refresher",
    "build",
    "drop",
    "prove",
]
