"""What runs by itself: scheduled functions and crons."""
