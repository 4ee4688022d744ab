"""Door: pages and the OHIF viewer."""
