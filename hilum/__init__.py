"""Composition root of Hilum: the only package that imports all the others."""
