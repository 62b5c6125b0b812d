"""What a run would be, before it is begun: see `outlook`, and `propose` for the way back."""
