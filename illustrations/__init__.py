"""The course's diagrams, one function each."""
