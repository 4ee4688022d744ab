"""What modalities are to do and have done: worklist and performed procedure steps."""
