"""Pictures of episodes: one file for each way of drawing."""
