"""What is said of the data of a task: how far one comes without learning, its labels, what was left out."""
