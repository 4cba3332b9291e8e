import sys

import pytest
from torch import nn

from stillroom.errors import InputError
from stillroom.imports import import_callable, where_found
from stillroom.models.demo_nets import small
from stillroom.trust import TYPED, UNKNOWN, UntrustedError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a module and a package whose import leaves a mark."""
    (tmp_path / "mine_test.py").write_text("class Nets:\n    @staticmethod\n    def make():\n        return 3\nx = 1\n")
    (tmp_path / "package_test").mkdir()
    (tmp_path / "package_test" / "__init__.py").write_text("open('imported', 'w').close()\n")
    (tmp_path / "package_test" / "inner.py").touch()
    (tmp_path / "package_test" / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine_test", "package_test")]:
        del sys.modules[name]


def test_a_dotted_name_in_the_working_directory_is_imported(folder):
    assert import_callable("mine_test", "Nets.make", TYPED)() == 3


def test_the_working_directory_hides_no_installed_package(folder):
    (folder / "torch.py").write_text("raise RuntimeError")
    assert import_callable("torch.nn", "Linear", TYPED) is nn.Linear


@pytest.mark.parametrize(
    ("module", "path", "message"),
    [
        ("absent_test", "f", "the module of absent_test:f cannot be imported: ModuleNotFoundError"),
        ("package_test.broken", "f", "cannot be imported: ZeroDivisionError"),
        ("mine_test", "Netz", "mine_test has no function 'Netz'; did you mean Nets"),
        ("mine_test", "x", "mine_test:x is a int, not a function or class"),
    ],
)
def test_what_cannot_be_imported_is_one_line(folder, module, path, message):
    with pytest.raises(InputError, match=message) as caught:
        import_callable(module, path, TYPED)
    assert "\n" not in str(caught.value)


def test_a_file_may_only_name_what_stillroom_defines(folder):
    assert import_callable("stillroom.models.demo_nets", "small", UNKNOWN) is small
    with pytest.raises(UntrustedError, match=r"package_test\.inner:f: .*inner\.py.*Nothing was imported; add --trust"):
        import_callable("package_test.inner", "f", UNKNOWN)
    with pytest.raises(UntrustedError, match="not Stillroom's own"):
        import_callable("stillroom.models.batch_norm", "nn.Linear", UNKNOWN)
    assert not (folder / "imported").exists()


def test_a_module_is_found_without_importing_its_package(folder):
    assert where_found("package_test.inner") == str(folder / "package_test" / "inner.py")
    assert where_found("package_test.none") == "its file was not found"
    assert not (folder / "imported").exists()
