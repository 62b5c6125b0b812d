"""Reads run folders: rows and tables, with nothing of the training stack."""
