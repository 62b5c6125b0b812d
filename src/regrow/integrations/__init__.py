"""Sparse training inside other people's training loops. Each file is named after the one library that it imports."""
