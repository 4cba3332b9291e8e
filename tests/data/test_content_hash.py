import io

import torch

from stillroom.data.content_hash import digest_of, digests_of


def test_a_hash_is_that_of_the_bytes_however_they_come(tmp_path):
    content = bytes(range(256)) * 500
    file = tmp_path / "x"
    file.write_bytes(content)
    with file.open("rb") as opened:
        opened.seek(100)
        found = digest_of(opened)
    assert found == digest_of(content) == digest_of(memoryview(content)) == digest_of(io.BytesIO(content))
    assert -(2**63) <= found < 2**63
    assert digest_of(content[:-1]) != found


def test_images_in_memory_have_the_same_hash_where_they_are_equal():
    images = torch.randint(0, 256, (40, 3, 6, 5), dtype=torch.uint8)
    images[7] = images[30]
    found = digests_of(images.contiguous(memory_format=torch.channels_last))
    assert torch.equal(found, digests_of(images))
    assert len(found.unique()) == 39
    assert found[7] == found[30]


def test_the_hash_of_an_image_in_memory_is_that_of_its_bytes_in_the_order_of_its_shape():
    images = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    turned = images.transpose(2, 3)
    assert digests_of(turned).tolist() == [digest_of(image.contiguous().numpy().tobytes()) for image in turned]
    assert digests_of(images[:0]).shape == (0,)
