"""The planner: from the text of the models to nodes, pure.

``parse`` reads a text, ``decompose`` takes it apart (with ``joins``, ``aggregates`` and ``keys``),
``sql`` compiles nodes to the full query and the delta, ``bind`` asks DuckDB about names and types.
"""

from upwell.transform.plan.models import plan_models, plan_those_that_hold
from upwell.transform.plan.nodes import ModelPlan, Node, Plan

__all__ = ["ModelPlan", "Node", "Plan", "plan_models", "plan_those_that_hold"]
