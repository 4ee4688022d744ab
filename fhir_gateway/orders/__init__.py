"""Imaging orders: from ServiceRequest to the worklist, and from the modality back."""
