import io

import torch

from stillroom.data.content_hash import hash_bytes, hash_images


def test_a_hash_is_that_of_the_bytes_however_they_come(tmp_path):
    content = bytes(range(256)) * 500
    file = tmp_path / "x"
    file.write_bytes(content)
    with file.open("rb") as opened:
        opened.seek(100)
        found = hash_bytes(opened)
    assert found == hash_bytes(content) == hash_bytes(memoryview(content)) == hash_bytes(io.BytesIO(content))
    assert -(2**63) <= found < 2**63
    assert hash_bytes(content[:-1]) != found


def test_images_in_memory_have_the_same_hash_where_they_are_equal():
    images = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8)
    images[7] = images[30]
    found = hash_images(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(found, hash_images(images))
    assert len(found.unique()) == 39
    assert found[7] == found[30]


def test_the_hash_of_an_image_in_memory_is_that_of_its_bytes_in_the_order_of_its_shape():
    images = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    turned = images.transpose(2, 3)
    assert hash_images(turned).tolist() == [hash_bytes(image.contiguous().numpy().tobytes()) for image in turned]
    assert hash_images(images[:0]).shape == (0,)
