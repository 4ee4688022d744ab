"""Associations that peers open: who is admitted, what is agreed on, which are open; their audit."""
