"""What a split leaks and which shortcuts its labels allow, for any table or task."""
