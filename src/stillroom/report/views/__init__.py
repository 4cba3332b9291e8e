"""The page's views beyond tables and charts, as plain numbers and small images; no HTML.

``class_alignment`` compares the class correlations of student and teacher, ``class_relations`` the probabilities of
confusable pairs, ``example_images`` the predictions and activation maps of some images, ``feature_plane`` embeddings.
Each file has pure functions of tensors and one that takes a ``Pair``; the run of each method's first seed is shown.
"""
