"""What is wrong with tasks, found before they are trained on."""
