"""From a new connection to a served association: the guard, and pynetdicom behind it."""
