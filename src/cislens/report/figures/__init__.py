"""The report's figures: each function takes tidy rows and gives one picture with its alt text."""
