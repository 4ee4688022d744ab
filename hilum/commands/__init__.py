"""What an operator types: one module per group of commands, and the work behind the long ones."""
