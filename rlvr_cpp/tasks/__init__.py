"""What a policy is asked, and how its answer becomes a program."""
