"""What stakeholders asked for, held against what was measured."""
