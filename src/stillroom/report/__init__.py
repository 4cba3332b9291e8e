"""Tables, images and pages, made from run folders alone."""
