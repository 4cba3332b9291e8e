"""What Stillroom is measured against, and how: ``python -m benchmarks`` lists the benchmarks."""
