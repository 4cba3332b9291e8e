import pickle
from pathlib import Path

from stillroom.data.image_folder import list_image_folder
from stillroom.data.set_index import indexed


def test_a_store_reads_the_same_after_pickling(image_folder):
    store = indexed(list_image_folder(image_folder())[0]).store
    copy = pickle.loads(pickle.dumps(store))
    assert [copy[place] for place in range(len(copy))] == [store[place] for place in range(len(store))]
    assert isinstance(store[0], bytes | Path)
