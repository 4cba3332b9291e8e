"""What the page shows beyond its tables: plain numbers and small images, made from finished runs; no HTML.

``alignment`` compares how classes correlate, ``relations`` what networks think of confusable pairs, ``samples`` what
they say about chosen images and where they look, ``plane`` how they arrange images. Each file has pure functions of
tensors and one that takes a ``Pair``; of each method the run of its first seed is shown.
"""
