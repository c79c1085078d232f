"""What an optimizer step is: the schedule of its learning rate, and which weights decay."""
