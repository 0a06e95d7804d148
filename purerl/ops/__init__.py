"""Pure maths on arrays, one topic a file."""
