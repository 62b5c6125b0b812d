"""What is done around runs: measuring them on the user's own machine."""
