"""What public code does, written plainly from the mathematics: what Stillroom is measured against."""
