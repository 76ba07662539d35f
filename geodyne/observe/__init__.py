"""What a process tells about itself: metrics, health, status, logs."""
