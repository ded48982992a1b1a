"""What other programs answered, kept to compare with; beside each file the script that made it."""
