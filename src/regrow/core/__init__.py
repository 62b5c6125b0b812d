"""The pure core: tensors and frozen dataclasses, torch and the standard library only."""
