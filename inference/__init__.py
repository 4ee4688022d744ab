"""Worker: Task -> pixels -> model -> SEG, SR, Observations, DiagnosticReport."""
