"""Algorithms, one a file. An agent's file is its whole story; none imports another."""
