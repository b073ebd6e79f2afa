"""A student learns to give what its running mean, the teacher, gives for other views."""
