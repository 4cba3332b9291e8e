import os
import socket
import sys

import pytest

from stillroom.data import load_data
from stillroom.data.folder_scan import FolderScan
from stillroom.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def test_what_is_called_like_an_image_but_is_none_is_named_and_never_opened(image_folder):
    root = image_folder(count=4)
    os.mkfifo(root / "ant" / "a.png")
    (root / "ant" / "b.jpg").mkdir()
    (root / "bee" / "c.png").symlink_to("/dev/zero")
    (root / "bee" / "d.png").symlink_to("gone.png")
    (root / "bee" / "e.png").symlink_to("e.png")
    with pytest.raises(InputError, match=r"5 of 13 .*: ant/a\.png \(a pipe.*\), ant/b\.jpg \(a folder\), bee/c\.png"):
        load_data(root)
    assert load_data(root, skip_broken=0.5).broken[3:] == ("bee/d.png", "bee/e.png")


def test_a_socket_is_no_image(image_folder, tmp_path, monkeypatch):
    root = image_folder()
    monkeypatch.chdir(root / "ant")  # a socket's path has to be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s.png")
        with pytest.raises(InputError, match=r"ant/s\.png \(a pipe, socket"):
            load_data(root)


def test_linked_folders_count_once_and_circles_end(image_folder, image, tmp_path):
    root = image_folder("set") / "set"
    (tmp_path / "elsewhere").mkdir()
    image(9).save(tmp_path / "elsewhere" / "9.png")
    (root / "ant" / "one").symlink_to(tmp_path / "elsewhere")
    (root / "ant" / "two").symlink_to(tmp_path / "elsewhere")
    (root / "ant" / "back").symlink_to(root / "ant")
    (tmp_path / "elsewhere" / "round").symlink_to(tmp_path / "elsewhere")
    data = load_data(root)
    assert len(data.train) + len(data.val) == 7


def test_links_above_or_into_another_class_are_refused(image_folder, tmp_path):
    root = image_folder()
    (root / "ant2").symlink_to("ant")
    (root / "bee" / "up").symlink_to(tmp_path.parent)
    (root / "loop").symlink_to(root)
    with pytest.raises(InputError, match="3 links to a folder above or of another class: ant2, bee/up, loop"):
        load_data(root)


def test_class_links_that_lead_nowhere_are_named(image_folder):
    root = image_folder()
    (root / "cat").symlink_to("gone")
    (root / "me").symlink_to("me")
    with pytest.raises(InputError, match="2 links leading nowhere: cat, me"):
        load_data(root)


def test_hidden_folders_and_macs_files_are_left_alone(image_folder, image):
    root = image_folder()
    (root / "ant" / "._0.png").write_bytes(b"finder")
    (root / "ant" / ".ipynb_checkpoints").mkdir()
    image(0).save(root / "ant" / ".ipynb_checkpoints" / "0-checkpoint.png")
    assert FolderScan(root, root).images(root / "ant") == ["ant/0.png", "ant/1.png", "ant/2.png"]


def test_closed_folders_are_named(image_folder, monkeypatch):
    root = image_folder(classes=("ant", "bee", "cat"))
    listed = os.scandir

    def scandir(folder):
        if folder.name in ("bee", "cat"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"2 folders that cannot be opened: bee \(permission denied\), cat"):
        load_data(root)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="nothing is closed to root")
def test_closed_files_and_roots_are_named(image_folder):
    root = image_folder()
    (root / "ant" / "0.png").chmod(0)
    with pytest.raises(InputError, match=r"ant/0\.png \(permission denied\)"):
        load_data(root)
    root.chmod(0)
    try:
        with pytest.raises(InputError, match="cannot be opened"):
            load_data(root)
    finally:
        root.chmod(0o700)
